"""Running a plan: its folder, its record, its workers, its end."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from typing import Any

from launcher import processes, provenance, report
from launcher.backends import Attempt, Outcome, backend
from launcher.plan import RunPlan
from launcher.progress import Display, display
from launcher.run_folder import RunFolder, read_json, write_json

OK, FAILED, BAD_CONFIGURATION, SUBMISSION_FAILED = 0, 1, 2, 3
INTERRUPTED = 128 + signal.SIGINT


def launch(plan: RunPlan, arguments: Sequence[str]) -> int:
    """Run ``plan`` unless it is complete, and return the exit code.

    Raises:
        RunInProgress: another process is running it.
        SubmissionFailed: its workers could not be started.
    """
    folder = RunFolder(plan.run_dir)
    if folder.status() == "completed":
        print(f"{plan.name} is complete already; nothing to do")
        report.print_summary(read_json(folder.summary) or {}, folder.path)
        return OK
    with folder.lock():
        attempt = Attempt(plan, folder, folder.next_attempt())
        where = report.relative(folder.path)
        saved = any(folder.path.glob("checkpoints/*/manifest.json"))
        workers = f"{plan.world_size} worker{'s' if plan.world_size > 1 else ''}"
        print(f"{plan.name}: {workers}, {'resuming in' if saved else 'in'} {where}", flush=True)
        _record(attempt, arguments)
        view = display(plan.name, bar=False if plan.cluster["name"] == "inline" else None)
        try:
            outcome = backend(plan.cluster["name"]).run(attempt, view)
        except BaseException:
            _conclude(attempt, Outcome("failed"), view)
            raise
        finally:
            view.close()
        summary = _conclude(attempt, outcome, view)
    if outcome.error is not None:
        report.print_error(outcome.error)
    report.print_summary(summary, folder.path)
    return _exit_code(outcome)


def _record(attempt: Attempt, arguments: Sequence[str]) -> None:
    """Write what the workers need to know, and what a reader will want to know, before anything starts."""
    plan, folder = attempt.plan, attempt.folder
    logs = folder.attempt(attempt.number)
    logs.mkdir(parents=True, exist_ok=True)
    me = processes.this_process()
    spec = {
        **plan.spec(),
        "provenance": provenance.record(folder.path, arguments),
        "attempt": {
            "number": attempt.number,
            "launcher": {"pid": me.pid, "started": me.started, "host": socket.gethostname()},
            "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        },
    }
    write_json(folder.spec, spec)
    write_json(logs / "spec.json", spec)  # spec.json itself is rewritten by the next attempt
    earlier = read_json(folder.summary) or {"steps": 0, "final": None, "best": None}
    running = {"run_id": plan.run_id, "name": plan.name, "status": "running", "error": None}
    write_json(folder.summary, {**earlier, **running})


def _conclude(attempt: Attempt, outcome: Outcome, view: Display) -> dict[str, Any]:
    """Bring ``summary.json`` in line with how all workers ended (rank 0 has written how it ended itself)."""
    folder = attempt.folder
    summary = read_json(folder.summary) or {"run_id": attempt.plan.run_id, "name": attempt.plan.name}
    error = outcome.error and {key: outcome.error.get(key) for key in ("rank", "type", "message", "log")}
    if outcome.status != "completed":
        rows = view.latest
        reached = max((row["step"] for row in rows.values()), default=summary.get("steps") or 0)
        summary = {
            **summary,
            "status": outcome.status,
            "steps": summary.get("steps") or reached,
            "final": _metrics(rows.get("val")) or summary.get("final"),
            "error": error,
        }
        if outcome.status == "failed":
            summary["steps"] = reached
        write_json(folder.summary, summary)
    return summary


def _metrics(row: dict[str, Any] | None) -> dict[str, Any] | None:
    return row and {key: value for key, value in row.items() if not key.startswith("total_")}


def _exit_code(outcome: Outcome) -> int:
    if outcome.status == "completed":
        return OK
    if outcome.signal is not None:
        return 128 + outcome.signal
    if outcome.error is not None and outcome.error.get("user_mistake"):
        return BAD_CONFIGURATION
    return FAILED
