"""Fifty run folders in every state, whole and damaged, made up in no time."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

from launcher.system.processes import this_process
from tests.support.run_folders import make_rows, make_run, make_sweep

WHOLE_SWEEP = "aaaa0001"
"""Eight completed runs over learning rate and seed."""
MIXED_SWEEP = "aaaa0002"
"""Runs in every state, one that has no folder, and one that is no id."""
DAMAGED_SWEEPS = ("bbbb0001", "bbbb0002", "bbbb0003", "bbbb0004")
GARBAGE = b"\x00\xff\xfe{]\x80\n\n{" * 40
FILES = ("spec.json", "summary.json", "metrics.jsonl", "rank-0.json", "job.json")
WRONG_TYPES: tuple[dict[str, Any], ...] = (
    {"spec.json": [], "summary.json": 3, "rank-0.json": "x", "job.json": None},
    {
        "spec.json": {"experiment": [1], "cluster": "slurm", "attempt": 7, "sweep": {}, "name": ["a"]},
        "summary.json": {"status": "failed", "error": "boom", "steps": "many", "final": 3, "best": [], "name": {}},
    },
    {
        "spec.json": {"experiment": {"world_size": 10**12, "model": 3}, "attempt": {"launcher": {"pid": "x"}}},
        "summary.json": {"status": "running", "error": {"rank": [], "message": 5}, "final": {"accuracy": "high"}},
        "job.json": {"job_id": ["1"], "folder": 3, "attempt": "two"},
    },
    {
        "spec.json": {
            "experiment": {"world_size": "4"},
            "attempt": {"launcher": {"pid": -1, "started": "", "host": 3}},
        },
        "summary.json": {"status": {"a": 1}, "steps": 1e400},
        "job.json": {"job_id": "77", "folder": None, "attempt": None, "submitted": "yesterday"},
        "rank-0.json": {"status": "failed", "attempt": 1, "time": "now", "error": None},
    },
    {
        "spec.json": {
            "experiment": {"world_size": 2},
            "attempt": {"number": 1, "launcher": None},
            "name": "\ud800\x1b[31m",
        },
        "summary.json": {"status": "failed", "error": {}},
        "job.json": {"job_id": "78"},
        "rank-0.json": {"status": "failed", "attempt": 1, "time": 1.0},
        "rank-1.json": {"status": "failed", "attempt": 1, "time": 2.0, "error": {"message": 3, "type": None}},
    },
)
WRONG_ROWS = (
    '3\n[]\nnull\n{"split": [], "step": "x"}\n{"split": "val", "step": 1e999, "accuracy": NaN, "loss": "low"}\n'
    '{"split": "train", "step": -3, "loss": Infinity, "step_time_ms": [], "wall_time_s": {}}\n{"step": 4, "spl'
)


def make_folders(runs: Path) -> Path:
    """Write the run folders and sweeps below ``runs``, and return it."""
    completed = [completed_run(runs, f"c0{number:08x}", lr=0.1 * (number // 2 + 1), seed=number) for number in range(8)]
    make_sweep(runs, WHOLE_SWEEP, [path.name for path in completed])
    live = [running_run(runs, f"a0{number:08x}", seed=number) for number in range(4)]
    live += [queued_run(runs, f"a1{number:08x}", seed=number) for number in range(3)]
    ended = [lost_run(runs, f"b0{number:08x}", seed=number) for number in range(3)]
    ended += [failed_run(runs, f"f0{number:08x}", seed=number) for number in range(5)]
    ended += [preempted_run(runs, f"e0{number:08x}", seed=number) for number in range(2)]
    ended += [cancelled_run(runs, f"e1{number:08x}", seed=number) for number in range(2)]
    ended += [elsewhere_run(runs, "e200000000")]
    on_slurm = [
        slurm_run(runs, "d000000000", "1001", "running"),
        slurm_run(runs, "d000000001", "1002_0", "queued"),
        slurm_run(runs, "d000000002", "1002_1", "queued"),
        slurm_run(runs, "d000000003", "1003", "preempted"),
        slurm_run(runs, "d000000004", "999", "running"),
        slurm_run(runs, "d000000005", "998", "completed"),
    ]
    mixed = [path.name for path in (*live, *ended, *on_slurm)]
    make_sweep(runs, MIXED_SWEEP, [*mixed, "0000000000", "no id"])
    damaged_runs(runs)
    for number, content in enumerate((GARBAGE, b"[]", b'{"points": [3, {"run_id": 5}, null], "created": [1]}')):
        folder = runs / "sweeps" / DAMAGED_SWEEPS[number]
        folder.mkdir(parents=True)
        (folder / "sweep.json").write_bytes(content)
    (runs / "sweeps" / DAMAGED_SWEEPS[3] / "sweep.json").mkdir(parents=True)  # a folder in place of the file
    (runs / "sweeps" / "a file").write_bytes(GARBAGE)
    (runs / "replaced" / "c000000000-20260101-000000").mkdir(parents=True)
    (runs / "notes.txt").write_text("not a run\n")
    return runs


def damaged_runs(runs: Path) -> list[Path]:
    """Write runs that something has happened to."""
    made = []
    for number, name in enumerate((*FILES, "logs", "checkpoints")):
        base = failed_run(runs, f"9{number:09x}", seed=number)
        if (base / name).is_dir():
            shutil.rmtree(base / name)
            (base / name).write_bytes(GARBAGE)  # a file in place of a folder
        else:
            (base / name).unlink(missing_ok=True)
            (base / name).mkdir()  # a folder in place of a file
        made.append(base)
    for number, content in enumerate((GARBAGE, b"", b'{"status": "comp')):
        folder = completed_run(runs, f"91{number:08x}", seed=number)
        for name in FILES:
            (folder / name).write_bytes(content)
        (folder / "logs" / "attempt-1" / "progress.jsonl").write_bytes(content)
        made.append(folder)
    for number, files in enumerate(WRONG_TYPES):
        folder = running_run(runs, f"92{number:08x}", seed=number)
        for name, value in files.items():
            (folder / name).write_text(json.dumps(value))
        (folder / "metrics.jsonl").write_text(WRONG_ROWS)
        (folder / "logs" / "attempt-1" / "progress.jsonl").write_text(WRONG_ROWS)
        (folder / "logs" / "attempt-x").mkdir()
        made.append(folder)
    empty = runs / "9300000000"
    empty.mkdir()
    no_summary = completed_run(runs, "9300000001")
    (no_summary / "summary.json").unlink()
    no_spec = completed_run(runs, "9300000002")
    (no_spec / "spec.json").unlink()
    unreadable = completed_run(runs, "9300000003")
    for name in FILES[:3]:
        (unreadable / name).chmod(0)
    dangling = runs / "9300000004"
    dangling.mkdir()
    for name in FILES:
        (dangling / name).symlink_to(dangling / f"gone-{name}")
    return [*made, empty, no_summary, no_spec, unreadable, dangling]


def completed_run(runs: Path, run_id: str, *, lr: float = 0.1, **experiment: Any) -> Path:
    """A run that reached its end."""
    optimizer = {"name": "sgd", "lr": lr}
    folder = make_run(runs, run_id, rows=make_rows(40, lift=lr / 100), optimizer=optimizer, **experiment)
    _amend(folder / "spec.json", **_launched(alive=False), overrides=[f"optimizer.lr={lr}"])
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    _amend(folder / "summary.json", steps=40, final=last, best=last, wall_time_s=0.8, sync_command=None)
    _attempt(folder, "completed")
    (folder / "checkpoints" / "step-40").mkdir(parents=True)
    (folder / "checkpoints" / "step-40" / "manifest.json").write_text('{"step": 40}')
    return folder


def running_run(runs: Path, run_id: str, **experiment: Any) -> Path:
    """A run under the eyes of a process that lives: this one."""
    folder = make_run(runs, run_id, rows=make_rows(20), status="running", **experiment)
    _amend(folder / "spec.json", **_launched(alive=True))
    _amend(folder / "summary.json", steps=0, final=None, best=None)
    _attempt(folder, "training")
    return folder


def queued_run(runs: Path, run_id: str, **experiment: Any) -> Path:
    """A run that waits for this process to start it."""
    folder = make_run(runs, run_id, status="queued", **experiment)
    _amend(folder / "spec.json", **_launched(alive=True))
    return folder


def lost_run(runs: Path, run_id: str, **experiment: Any) -> Path:
    """A run that says it is running, but whose launcher is gone."""
    folder = running_run(runs, run_id, **experiment)
    _amend(folder / "spec.json", **_launched(alive=False))
    return folder


def elsewhere_run(runs: Path, run_id: str) -> Path:
    """A run that was started on another machine."""
    folder = running_run(runs, run_id)
    spec = json.loads((folder / "spec.json").read_text())
    spec["attempt"]["launcher"]["host"] = "elsewhere"
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder


def failed_run(runs: Path, run_id: str, **experiment: Any) -> Path:
    """A run in which worker 2 failed and took the others with it."""
    error = {"rank": 2, "type": "ValueError", "message": "loss is not finite", "log": None}
    folder = make_run(runs, run_id, rows=make_rows(16), status="failed", error=error, **experiment)
    _amend(folder / "spec.json", **_launched(alive=False))
    _attempt(folder, "failed", {"type": "RuntimeError", "message": "Connection closed by peer", "traceback": "..."})
    traceback = 'Traceback (most recent call last):\n  File "train.py", line 7\nValueError: loss is not finite\n'
    _amend(folder / "rank-2.json", error={**error, "traceback": traceback})
    return folder


def preempted_run(runs: Path, run_id: str, **experiment: Any) -> Path:
    """A run that made room for others."""
    folder = make_run(runs, run_id, rows=make_rows(16), status="preempted", **experiment)
    _amend(folder / "spec.json", **_launched(alive=False))
    _attempt(folder, "preempted")
    return folder


def cancelled_run(runs: Path, run_id: str, **experiment: Any) -> Path:
    """A run that a user cancelled."""
    folder = make_run(runs, run_id, rows=make_rows(16), status="cancelled", **experiment)
    _amend(folder / "spec.json", **_launched(alive=False))
    _attempt(folder, "cancelled")
    return folder


def slurm_run(runs: Path, run_id: str, job_id: str, status: str, **experiment: Any) -> Path:
    """A run that was submitted to SLURM."""
    folder = make_run(runs, run_id, rows=None if status == "queued" else make_rows(16), status=status, **experiment)
    attempt = {"number": 1, "launcher": None, "cuda_visible_devices": None}
    _amend(folder / "spec.json", cluster={"name": "slurm"}, run_dir=str(folder), attempt=attempt)
    logs = folder / "logs" / "attempt-1"
    if status != "queued":
        _attempt(folder, {"running": "training"}.get(status, status))
        for rank in range(4):
            (logs / f"1_{rank}_log.out").rename(logs / f"{job_id}_{rank}_log.out")
    job = {"scheduler": "slurm", "job_id": job_id, "attempt": 1, "folder": str(logs), "submitted": time.time() - 60}
    (folder / "job.json").write_text(json.dumps(job))
    return folder


def squeue_that(says: str, folder: Path) -> Path:
    """Write a ``squeue`` and a ``scancel`` into ``folder``, which goes first on PATH.

    Args:
        says: ``answers``, ``fails``, ``hangs`` or ``babbles``.
    """
    jobs = "1001|N/A|RUNNING|None|node1\n1002|0|PENDING|Resources|\n1002|1|PENDING|Priority|\n1003|N/A|PENDING|None|\n"
    bodies = {
        "answers": f"printf '%s' '{jobs}'",
        "fails": "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
        "hangs": "exec sleep 60",
        "babbles": "printf 'what\\n|||\\n\\377\\376\\n'",
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("squeue", "scancel"):
        command = folder / name
        command.write_text(f'#!/bin/sh\necho "{name} $*" >> "{folder}/asked"\n{bodies[says]}\n')
        command.chmod(0o755)
    return folder


def _launched(*, alive: bool) -> dict[str, Any]:
    """Return what spec.json says of who watches, and where."""
    me = this_process()
    launcher = {"pid": os.getpid(), "started": me.started if alive else "1", "host": socket.gethostname()}
    return {
        "cluster": {"name": "local"},
        "attempt": {"number": 1, "launcher": launcher, "cuda_visible_devices": None},
    }


def _attempt(folder: Path, status: str, error: dict[str, Any] | None = None) -> None:
    """Write what the workers of the first attempt leave."""
    logs = folder / "logs" / "attempt-1"
    logs.mkdir(parents=True)
    shutil.copy(folder / "spec.json", logs)
    row = {"split": "train", "step": 16, "epoch": 1.6, "loss": 0.2, "total_steps": 40, "wall_time_s": 0.3}
    (logs / "progress.jsonl").write_text(json.dumps(row) + "\n")
    now = time.time()
    for rank in range(4):
        report = {"rank": rank, "status": status, "attempt": 1, "pid": 4000000 + rank, "started": "1"}
        report |= {"host": socket.gethostname(), "time": now + rank, **({"error": error} if error else {})}
        (folder / f"rank-{rank}.json").write_text(json.dumps(report))
        (logs / f"1_{rank}_log.out").write_text("".join(f"line {number} of {rank}\n" for number in range(1, 21)))


def _amend(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
