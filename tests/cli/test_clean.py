"""``sgp clean``: what goes, what stays, and who is asked."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.runs import removal
from launcher.runs.find import run_ids
from launcher.runs.run_folder import RunFolder
from tests.support.run_folders import make_sweep
from tests.support.run_states import (
    MIXED_SWEEP,
    WHOLE_SWEEP,
    cancelled_run,
    completed_run,
    failed_run,
    queued_run,
    running_run,
    slurm_run,
)
from tests.support.sgp_command import Said


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run in each of five states."""
    runs = tmp_path / "runs"
    completed_run(runs, "c000000000")
    failed_run(runs, "f000000000")
    cancelled_run(runs, "e000000000")
    running_run(runs, "a000000000")
    queued_run(runs, "a100000000")
    return runs


def test_what_is_meant_goes_and_the_rest_stays(home: Path, sgp: Callable[..., Said]) -> None:
    said = sgp("clean", "--state", "failed,cancelled", "--yes", "--runs-dir", home)
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[-1].startswith("removed 2 runs, ")
    assert sorted(os.listdir(home)) == ["a000000000", "a100000000", "c000000000"]


def test_a_dry_run_removes_nothing_and_says_how_much_there_is(home: Path, sgp: Callable[..., Said]) -> None:
    before = sorted(home.rglob("*"))
    said = sgp("clean", "--state", "failed", "--dry-run", "--runs-dir", home)
    size = sum(path.stat().st_size for path in (home / "f000000000").rglob("*") if path.is_file())
    assert said.out.splitlines()[-1] == f"would remove 1 run, {size / 1000:.3g} kB"
    answer = sgp("clean", "--state", "failed", "--dry-run", "--json", "--runs-dir", home).json
    assert (answer["dry_run"], answer["bytes"], [run["run_id"] for run in answer["removed"]]) == (
        True,
        size,
        ["f000000000"],
    )
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize("words", [["a000000000", "a100000000"], ["--older-than", "0s", "--state", "queued,running"]])
def test_what_lives_stays(words: list[str], home: Path, sgp: Callable[..., Said]) -> None:
    said = sgp("clean", *words, "--yes", "--runs-dir", home, "--json")
    assert said.code == 0
    assert {kept["run_id"]: kept["why"] for kept in said.json["kept"]} == {
        "a000000000": "running",
        "a100000000": "queued",
    }
    assert len(run_ids(home)) == 5


@pytest.mark.parametrize("status", ["queued", "running", "preempted", "cancelled"])
def test_what_may_live_stays(
    status: str, tmp_path: Path, sgp: Callable[..., Said], slurm: Callable[[str], Path]
) -> None:
    slurm("fails")
    slurm_run(tmp_path, "d000000000", "1001", status)
    said = sgp("clean", "d", "--yes", "--runs-dir", tmp_path, "--json")
    assert said.json["removed"] == []
    assert "SLURM does not answer" in said.json["kept"][0]["why"]
    assert (tmp_path / "d000000000" / "spec.json").exists()


def test_a_run_that_is_held_stays(home: Path, sgp: Callable[..., Said]) -> None:
    with RunFolder(home / "f000000000").lock():
        said = sgp("clean", "f0", "--yes", "--runs-dir", home)
    assert said.err == "sgp: f000000000 stays: in use\n"
    assert (home / "f000000000" / "spec.json").exists()


def test_a_run_that_was_started_while_one_thought_about_it_stays(
    home: Path, sgp: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "f000000000"

    def started(run: object, runs_dir: Path) -> str | None:
        (folder / "summary.json").write_text('{"status": "queued"}')
        (folder / "spec.json").write_text((home / "a000000000" / "spec.json").read_text())
        monkeypatch.undo()
        return None

    monkeypatch.setattr("launcher.cli.commands.clean.objection", started)
    said = sgp("clean", "f0", "--yes", "--runs-dir", home)
    assert said.err == "sgp: f000000000 stays: queued\n"
    assert (folder / "spec.json").exists()


def test_only_checkpoints_of_completed_runs(home: Path, sgp: Callable[..., Said]) -> None:
    for run_id in ("f000000000", "e000000000"):
        (home / run_id / "checkpoints" / "step-10").mkdir(parents=True)
    said = sgp("clean", "--checkpoints", "--yes", "--runs-dir", home)
    assert said.out.splitlines()[-1] == "removed the checkpoints of 1 run, 12 B"
    assert "f000000000 stays: failed: only completed runs can do without checkpoints" in said.out
    assert not (home / "c000000000" / "checkpoints").exists()
    assert (home / "c000000000" / "metrics.jsonl").exists()
    assert (home / "f000000000" / "checkpoints").exists()
    assert "nothing to remove" in sgp("clean", "c0", "--checkpoints", "--runs-dir", home).out


def test_only_old_ones(home: Path, sgp: Callable[..., Said]) -> None:
    for path in (home / "f000000000").rglob("*"):
        os.utime(path, (time.time() - 3 * 86400,) * 2)
    said = sgp("clean", "--older-than", "2d", "--dry-run", "--runs-dir", home, "--json")
    assert [run["run_id"] for run in said.json["removed"]] == ["f000000000"]
    assert sgp("clean", "--older-than", "4d", "--runs-dir", home).out == "nothing to remove\n"


def test_a_sweep_goes_with_the_last_of_its_runs(home: Path, sgp: Callable[..., Said]) -> None:
    make_sweep(home, "abcd0000", ["f000000000", "c000000000"])
    make_sweep(home, "abcd1111", ["f000000000", "e000000000"])
    said = sgp("clean", "abcd0", "--yes", "--runs-dir", home, "--json")
    assert said.json["sweeps"] == ["abcd0000"]
    assert os.listdir(home / "sweeps") == ["abcd1111"]
    sgp("clean", "e0", "--yes", "--runs-dir", home)
    assert os.listdir(home / "sweeps") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say what to remove: runs, sweeps, --state, --older-than, --checkpoints or --replaced"),
        (["--older-than", "old"], "--older-than old: an age is a number with s, m, h, d or w, such as 30d"),
        (["--state", "faild"], "--state faild: no such state; did you mean 'failed'?"),
        (["f000000000"], "nothing was removed: without a terminal to ask on, --yes is needed"),
    ],
)
def test_mistakes(words: list[str], message: str, home: Path, sgp: Callable[..., Said]) -> None:
    said = sgp("clean", *words, "--runs-dir", home)
    assert (said.code, said.err) == (2, f"sgp: {message}\n")
    assert len(run_ids(home)) == 5


@pytest.mark.parametrize(("answer", "left"), [("n", True), ("y", False)])
def test_on_a_terminal_it_asks(answer: str, left: bool, home: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "launcher.cli.sgp", "clean", "f0", "--runs-dir", str(home)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.STDOUT)
    os.close(theirs)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(ours, 1000)
    os.write(ours, f"{answer}\n".encode())
    assert process.wait(30) == (1 if left else 0)
    os.close(ours)
    assert (home / "f000000000").exists() == left


def test_nothing_outside_of_the_runs_is_touched(home: Path, tmp_path: Path, sgp: Callable[..., Said]) -> None:
    elsewhere = completed_run(tmp_path / "other", "c111111111")
    (home / "c222222222").symlink_to(elsewhere)
    pictures = home / "deadbeef00"
    pictures.mkdir()
    (pictures / "holiday.png").write_bytes(b"...")
    said = sgp("clean", "c22", "deadbeef00", str(elsewhere), "--yes", "--runs-dir", home, "--json")
    assert said.json["removed"] == []
    assert {kept["run_id"]: kept["why"] for kept in said.json["kept"]} == {
        "c222222222": f"not a folder in {home}",
        "deadbeef00": "does not look like the folder of a run",
        "c111111111": f"not a folder in {home}",
    }
    assert (elsewhere / "spec.json").exists()
    assert (pictures / "holiday.png").exists()


def test_links_in_a_run_are_not_followed(home: Path, tmp_path: Path, sgp: Callable[..., Said]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "precious").write_text("...")
    (home / "f000000000" / "wandb").symlink_to(data)
    (home / "c000000000" / "checkpoints").rename(tmp_path / "kept")
    (home / "c000000000" / "checkpoints").symlink_to(tmp_path / "kept")
    assert sgp("clean", "f0", "--yes", "--runs-dir", home).code == 0
    assert "checkpoints is not a folder" in sgp("clean", "c0", "--checkpoints", "--yes", "--runs-dir", home).err
    assert (data / "precious").exists()
    assert (tmp_path / "kept" / "step-40").exists()


def test_what_cannot_be_deleted_is_told(home: Path, sgp: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(removal.shutil, "rmtree", refuse)
    said = sgp("clean", "f0", "--yes", "--runs-dir", home)
    assert said.err.startswith("sgp: f000000000 stays: Permission denied; what is left of it is in ")


def test_everything_that_has_ended(fresh_folders: Path, sgp: Callable[..., Said], slurm: Callable[[str], Path]) -> None:
    slurm("answers")
    ended = "completed,failed,preempted,cancelled,lost,damaged"
    said = sgp("clean", "--state", ended, "--yes", "--runs-dir", fresh_folders, "--json")
    assert said.code == 0
    assert WHOLE_SWEEP in said.json["sweeps"]
    assert MIXED_SWEEP not in said.json["sweeps"]
    left = sgp("runs", "--runs-dir", fresh_folders, "--json").json
    assert {run["state"] for run in left} == {"queued", "running"}
    assert (fresh_folders / "replaced").exists()
    assert (fresh_folders / "notes.txt").exists()
    assert not list(fresh_folders.glob(".removed*"))


def test_what_lies_beside_the_runs_goes_when_asked_for(home: Path, sgp: Callable[..., Said]) -> None:
    set_aside = home / "replaced" / "c000000000-20260101-000000"
    set_aside.mkdir(parents=True)
    (set_aside / "metrics.jsonl").write_text("{}\n")
    runs = sorted(path for run in run_ids(home) for path in (home / run).rglob("*"))
    asked = ("clean", "--replaced", "--runs-dir", home)
    refused = sgp(*asked)
    assert (refused.code, set_aside.exists(), "--yes is needed" in refused.err) == (2, True, True)
    assert sgp(*asked, "--dry-run").out.splitlines()[-1] == "would remove 1 folder, 3 B"
    told = {"folder": "replaced/c000000000-20260101-000000", "bytes": 3}
    assert sgp(*asked, "--yes", "--json").json == {"dry_run": False, "removed": [told], "kept": [], "bytes": 3}
    assert not set_aside.exists()
    assert sorted(path for run in run_ids(home) for path in (home / run).rglob("*")) == runs
    assert sgp(*asked).out == "nothing to remove\n"


def test_what_lies_beside_the_runs_is_no_state_of_a_run(home: Path, sgp: Callable[..., Said]) -> None:
    said = sgp("clean", "--replaced", "--state", "failed", "--yes", "--runs-dir", home)
    assert (said.code, said.err) == (2, "sgp: --replaced goes with neither runs nor other filters: give it alone\n")
