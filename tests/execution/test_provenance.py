"""Where a run comes from is recorded as it is, whatever the state of the machine."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

import pytest

from launcher.execution import provenance
from tests.support.packages import GIT, require


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder; the command is given in tmp_path/work by somebody who has installed the package."""
    (tmp_path / "work").mkdir()
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "site-packages" / "launcher" / "provenance.py"))
    return tmp_path / "run"


def git(*words: str) -> str:
    """Run git and return what it printed."""
    require(GIT)
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    done = subprocess.run(["git", *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_packages_are_those_that_importlib_knows(folder: Path) -> None:
    provenance.record(folder, [])
    expected = {(d.metadata["Name"], d.version) for d in importlib.metadata.distributions()}
    written = {tuple(line.split("==")) for line in (folder / "packages.txt").read_text().splitlines()}
    assert written == expected


def test_odd_packages_do_no_harm(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "odd"))
    for name, text in {
        "empty": "",
        "nameless": "Version: 1\n",
        "numpy": "Name: numpy\nVersion: 0.0\n\nName: other\n",
    }.items():
        place = tmp_path / "odd" / f"{name}-0.0.dist-info"
        place.mkdir(parents=True)
        (place / "METADATA").write_text(text)
    assert provenance.record(folder, [])["versions"]["numpy"] == "0.0"  # it hides the other
    assert "other" not in (folder / "packages.txt").read_text()


def test_commit_branch_and_what_is_not_committed(folder: Path) -> None:
    assert provenance.record(folder, [])["git"] is None
    git("init", "-q", "-b", "trunk")
    assert provenance.record(folder, [])["git"] is None  # nothing committed yet
    Path("file").write_text("one\n")
    git("add", "file")
    git("commit", "-qm", "first")
    sha = git("rev-parse", "HEAD")
    assert provenance.record(folder, [])["git"] == {"sha": sha, "branch": "trunk", "uncommitted": None}
    Path("file").write_text("two\n")
    assert provenance.record(folder, [])["git"]["uncommitted"] == "uncommitted.diff"
    assert "+two" in (folder / "uncommitted.diff").read_text()
    git("checkout", "-q", "--detach", "-f")
    assert provenance.record(folder, [])["git"] == {"sha": sha, "branch": "HEAD", "uncommitted": None}
    assert not (folder / "uncommitted.diff").exists()
