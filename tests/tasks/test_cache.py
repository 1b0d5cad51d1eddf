"""What is kept for other processes is whole or absent, and what killed processes leave is removed."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from sgp_core.tasks.cache import exclusive, load_or_make
from sgp_core.tasks.content import describe_changes, say_changes

KILLED = """
import os, signal, sys
from pathlib import Path
from sgp_core.tasks.cache import load_or_make

def fill(folder, made):
    (folder / "large.npy").write_bytes(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)

load_or_make(Path(sys.argv[1]), lambda entry: None, lambda: "made", fill, "test data")
"""


def make(entry: Path) -> str | None:
    def read(entry: Path) -> str | None:
        return (entry / "file").read_text() if (entry / "file").exists() else None

    return load_or_make(
        entry, read, lambda: "made", lambda folder, made: (folder / "file").write_text(made) and None, "data"
    )


def test_leftovers_of_killed_processes_are_removed_and_those_of_live_ones_are_not(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "one")], check=False)
    assert done.returncode == -9
    [left] = tmp_path.glob(".one.*")
    assert left.is_dir()
    (tmp_path / ".two.123").mkdir()
    with exclusive(tmp_path / "two.lock"):
        assert make(tmp_path / "three") == "made"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [".two.123", "three"]
    assert make(tmp_path / "two") == "made"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["three", "two"]


def test_damage_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "entry").mkdir()
    assert make(tmp_path / "entry") == "made"
    assert f"data in {tmp_path / 'entry'} are damaged: they are made anew" in caplog.text
    caplog.clear()
    assert make(tmp_path / "entry") == "made"
    assert not caplog.records


@pytest.mark.parametrize(
    ("now", "changes"),
    [
        ({"training examples": 8, "content": "a"}, ""),
        ({"training examples": 7, "content": "b"}, "7 training examples, not 8"),
        ({"training examples": 8, "content": "b"}, "other content"),
        ({"something else": 3}, ""),
    ],
)
def test_data_that_are_not_what_they_were_are_said_once(
    now: dict[str, object], changes: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = {"training examples": 8, "content": "a"}
    assert describe_changes(before, now) == changes
    caplog.set_level(logging.WARNING)
    say_changes(tmp_path, "photos.tar", before, 32)
    say_changes(tmp_path, "other.tar", now, 32)
    say_changes(tmp_path, "photos.tar", now, 64)
    assert not caplog.records
    for _ in range(2):
        say_changes(tmp_path, "photos.tar", now, 32)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == bool(changes)
    assert all("photos.tar is not what it was when it was read on" in line and changes in line for line in said)
