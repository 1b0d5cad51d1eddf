"""``sgp status``: one run in all detail, a sweep in a line each, and looking on until the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from launcher.cli import watch
from sgp_core.atomic_files import write_json
from tests.support.run_folders import make_sweep
from tests.support.run_states import (
    MIXED_SWEEP,
    WHOLE_SWEEP,
    completed_run,
    failed_run,
    lost_run,
    queued_run,
    running_run,
    slurm_run,
)
from tests.support.sgp_command import Said

ONE, TWO, SWEEP = "a000000001", "b000000002", "cccc0001"


def test_a_run_that_trains(tmp_path: Path, sgp: Callable[..., Said]) -> None:
    running_run(tmp_path, ONE)
    said = sgp("status", "a0", "--runs-dir", tmp_path)
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0] == f"sgp-ring-4w-seed0 ({ONE}): running"
    told = {line[2:22].strip(): line[23:] for line in lines[1:] if line.startswith("  ")}
    assert told["step"] == "20/40  50%, about 0.4 s left"  # 20 steps took 0.4 s
    assert told["loss"] == "0.1000 at step 20"
    assert told["accuracy"] == "0.8750"
    assert told["time per step"] == "20.0 ms = data 2.00 + compute 6.00 + communication 12.0"
    assert [line.split()[:2] for line in lines[-4:]] == [[str(rank), "training"] for rank in range(4)]


def test_everything_as_json(tmp_path: Path, sgp: Callable[..., Said]) -> None:
    completed_run(tmp_path, ONE)
    told = sgp("status", ONE, "--json", "--runs-dir", tmp_path).json
    assert (told["run_id"], told["state"], told["step"], told["total_steps"]) == (ONE, "completed", 40, 40)
    assert told["checkpoints"] == [40]
    assert told["eta_s"] is None
    assert [worker["status"] for worker in told["workers"]] == ["completed"] * 4
    assert told["time_per_step_ms"] == pytest.approx({"total": 20, "data": 2, "compute": 6, "communication": 12})
    assert told["error"] is None


def test_virtual_time_stands_below_the_time_of_training(tmp_path: Path, sgp: Callable[..., Said]) -> None:
    folder = running_run(tmp_path, ONE)
    assert "virtual time" not in sgp("status", ONE, "--runs-dir", tmp_path).out
    assert sgp("status", ONE, "--json", "--runs-dir", tmp_path).json["virtual_time_s"] is None
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 24, "split": "train", "wall_time_s": 0.5, "virtual_time_s": 90.0}) + "\n")
    lines = sgp("status", ONE, "--runs-dir", tmp_path).out.splitlines()
    titles = [line[2:22].strip() for line in lines]
    assert lines[titles.index("training time") + 1].split() == ["virtual", "time", "1", "min", "30", "s"]
    assert sgp("status", ONE, "--json", "--runs-dir", tmp_path).json["virtual_time_s"] == 90.0


def test_the_culprit_is_named_and_not_a_victim(tmp_path: Path, sgp: Callable[..., Said]) -> None:
    folder = failed_run(tmp_path, ONE)
    said = sgp("status", ONE, "--runs-dir", tmp_path)
    assert said.code == 1
    assert "worker 2 failed: ValueError: loss is not finite" in said.out
    assert 'File "train.py", line 7' in said.out
    assert said.out.splitlines()[-1].endswith("1_2_log.out")
    error = sgp("status", ONE, "--json", "--runs-dir", tmp_path).json["error"]
    assert (error["rank"], error["type"]) == (2, "ValueError")
    assert Path(error["log"]) == folder / "logs" / "attempt-1" / "1_2_log.out"


def test_a_failure_that_nobody_has_judged_yet(
    tmp_path: Path, sgp: Callable[..., Said], slurm: Callable[[str], Path]
) -> None:
    slurm("answers")
    folder = slurm_run(tmp_path, ONE, "1001", "running")
    report = json.loads((folder / "rank-3.json").read_text())
    error = {"type": "MemoryError", "message": "out of memory", "traceback": "Traceback: here"}
    write_json(folder / "rank-3.json", {**report, "status": "failed", "error": error})
    said = sgp("status", ONE, "--runs-dir", tmp_path)
    assert said.out.startswith(f"sgp-ring-4w-seed0 ({ONE}): running")
    assert "slurm 1001 on node1, 4 workers" in said.out
    assert "worker 3 failed: MemoryError: out of memory" in said.out


def test_a_lost_run_is_a_failure(tmp_path: Path, sgp: Callable[..., Said]) -> None:
    lost_run(tmp_path, ONE)
    said = sgp("status", ONE, "--runs-dir", tmp_path)
    assert said.code == 1
    assert ": lost, process" in said.out


def test_without_a_name_all_that_live(tmp_path: Path, sgp: Callable[..., Said]) -> None:
    running_run(tmp_path, ONE)
    queued_run(tmp_path, TWO)
    failed_run(tmp_path, "f000000000")
    said = sgp("status", "--runs-dir", tmp_path)
    assert said.code == 0
    assert said.out.splitlines()[0] == f"live in {tmp_path}: 2 runs, 1 queued, 1 running"
    assert {line.split()[0] for line in said.out.splitlines()[2:]} == {ONE, TWO}


def test_a_sweep(folders: Path, sgp: Callable[..., Said], slurm: Callable[[str], Path]) -> None:
    slurm("answers")
    said = sgp("status", WHOLE_SWEEP, "--runs-dir", folders)
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0] == f"sweep {WHOLE_SWEEP}: 8 runs, 8 completed"
    assert lines[1] == "best accuracy so far: 0.8915 ± 0.0000 std of 2 seeds, sgp-ring-4w-seed6 (c000000006)"
    mixed = sgp("status", MIXED_SWEEP, "--json", "--runs-dir", folders)
    assert mixed.code == 1
    assert mixed.json["states"] == {
        "running": 6,  # of which one is on SLURM, and one elsewhere
        "queued": 6,
        "completed": 1,
        "failed": 5,
        "preempted": 2,
        "cancelled": 2,
        "lost": 4,
        "damaged": 1,
    }


def test_a_search_says_what_best_means(tmp_path: Path, sgp: Callable[..., Said]) -> None:
    for run_id, lr in ((ONE, 0.1), (TWO, 0.9)):
        run = completed_run(tmp_path, run_id, lr=lr)
        (run / "metrics.jsonl").write_text(json.dumps({"split": "val", "step": 3, "loss": lr}) + "\n")
    record = make_sweep(tmp_path, SWEEP, [ONE, TWO]) / "sweep.json"
    for direction, best in (("minimize", ONE), ("maximize", TWO)):
        write_json(record, {**json.loads(record.read_text()), "search": {"metric": "loss", "direction": direction}})
        told = sgp("status", SWEEP, "--json", "--runs-dir", tmp_path).json["best"]
        assert (told["run_id"], told["metric"]) == (best, "loss")


# -- looking on -------------------------------------------------------------------------------------------------------
def happen(monkeypatch: pytest.MonkeyPatch, events: Iterable[Callable[[], None]]) -> None:
    """Let one event happen between each two looks; time plays no part."""
    coming = iter(events)
    monkeypatch.setattr(watch, "wait", lambda: next(coming)())


def becomes(folder: Path, status: str) -> Callable[[], None]:
    """Return an event: the run's summary says ``status``."""
    summary = folder / "summary.json"
    return lambda: write_json(summary, {**json.loads(summary.read_text()), "status": status})


def test_looking_on_tells_changes_until_all_have_ended(
    tmp_path: Path, sgp: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    for run_id in (ONE, TWO):
        queued_run(tmp_path, run_id)
    make_sweep(tmp_path, SWEEP, [ONE, TWO])
    changes = ((ONE, "running"), (ONE, "completed"), (TWO, "running"), (TWO, "failed"))
    happen(monkeypatch, [becomes(tmp_path / run_id, status) for run_id, status in changes])
    said = sgp("status", SWEEP, "--watch", "--runs-dir", tmp_path)
    assert said.code == 1
    lines, _, end = said.out.partition("\n\n")
    seen = [(line.split()[1], line.split()[3].rstrip(",")) for line in lines.splitlines()]
    assert [state for run, state in seen if run == ONE] == ["queued", "running", "completed"]
    assert [state for run, state in seen if run == TWO] == ["queued", "running", "failed"]
    assert end.startswith(f"sweep {SWEEP}: 2 runs, 1 completed, 1 failed")


def test_a_job_that_is_queued_again_is_waited_for(
    tmp_path: Path, sgp: Callable[..., Said], slurm: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm("answers")
    folder = slurm_run(tmp_path, ONE, "1003", "preempted")  # which SLURM has back in its queue
    happen(monkeypatch, [lambda: None, becomes(folder, "completed")])
    said = sgp("status", ONE, "--watch", "--runs-dir", tmp_path)
    assert said.code == 0
    assert [line.split()[3].rstrip(",") for line in said.out.partition("\n\n")[0].splitlines()] == [
        "queued",
        "completed",
    ]


def test_nothing_to_look_on_at(tmp_path: Path, sgp: Callable[..., Said]) -> None:
    completed_run(tmp_path, ONE)
    assert sgp("status", ONE, "--watch", "--runs-dir", tmp_path).code == 0
    assert sgp("status", "--watch", "--runs-dir", tmp_path).out.startswith(f"live in {tmp_path}: 0 runs")
    assert sgp("status", "--watch", "--json", "--runs-dir", tmp_path).code == 2


def test_a_terminal_is_drawn_on_in_place(
    tmp_path: Path, sgp: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for run_id in (ONE, TWO):
        running_run(tmp_path, run_id)
    make_sweep(tmp_path, SWEEP, [ONE, TWO])

    happen(monkeypatch, [becomes(tmp_path / ONE, "completed"), becomes(tmp_path / TWO, "completed")])
    said = sgp("status", SWEEP, "--watch", "--runs-dir", tmp_path)
    assert said.code == 0
    assert f"sweep {SWEEP}: 2 runs, 2 running" in said.out
    assert "\x1b[1A\x1b[2K" in said.out  # up one line, clear it
    assert "\x1b[32mcompleted" in said.out.rpartition(f"sweep {SWEEP}: 2 runs, 2 completed")[2]
