"""The life of one run that this process watches: its folder, its records, its workers, its end."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from launcher.config.extension import describe_extension
from launcher.config.run_plan import RunPlan
from launcher.config.trust import sign
from launcher.console.messages import print_failure
from launcher.console.progress import Display
from launcher.console.summary import print_error, print_summary, print_warnings, relative
from launcher.execution import provenance
from launcher.execution.backends.base import Attempt, Outcome
from launcher.execution.backends.select import backend
from launcher.execution.extension import begin_extension
from launcher.execution.signals import StopSignals
from launcher.runs import reserve
from launcher.runs.leftovers import clean_temporary
from launcher.runs.membership import count_replacements
from launcher.runs.run_folder import RunFolder
from launcher.system import processes
from sgp_core.atomic_files import read_json, write_json
from sgp_core.same_folder import FolderGone
from sgp_core.training.checkpoint import CheckpointStore

OK, FAILED, BAD_CONFIGURATION, SUBMISSION_FAILED = 0, 1, 2, 3
INTERRUPTED = 128 + signal.SIGINT
"""Exit codes of a run, and of a command with a single run."""

LIVE = ("queued", "running")
"""Statuses of a run that has not ended."""


def run_here(
    plan: RunPlan,
    command: Sequence[str],
    display: Display,
    stop: StopSignals,
    gpus: str | None,
    label: str = "",
) -> Generator[None, None, int]:
    """Run ``plan`` in steps, one each time the caller resumes the generator, and return its exit code.

    Args:
        gpus: value of ``CUDA_VISIBLE_DEVICES`` for the workers.
        label: the run's number among those of the command; empty if it is alone.

    Raises:
        RunInProgress: another process is running it.
        SubmissionFailed: its workers could not be started.
    """
    folder = RunFolder(plan.run_dir)
    with folder.lock():
        folder.cancel.unlink(missing_ok=True)
        folder.job.unlink(missing_ok=True)
        attempt = Attempt(plan, folder, folder.next_attempt(), gpus)
        CheckpointStore(folder.path, plan.world_size).clean()  # what a full disk stopped may be what fills it
        clean_temporary(folder)
        display.say(f"{label}{announcement(plan, folder)}")
        record(attempt, command, "running", watched=True)
        folder.same.check()
        try:
            outcome = yield from backend(plan.cluster.name).run(attempt, display, stop)
        except BaseException:
            if folder.same.is_there():
                conclude(folder, Outcome("failed"), display.latest)
            raise
        finally:
            display.close()
        try:
            folder.same.check()  # the workers noticed, and another run may be in its place
        except FolderGone as error:
            return print_failure(error, FAILED)
        summary = conclude(folder, outcome, display.latest)
    print_warnings(folder, attempt.number, plan.processes)
    if outcome.error is not None:
        print_error(outcome.error)
    print_summary(summary, folder.path, label and f"{label}{plan.title}")
    return _exit_code(outcome)


def announcement(plan: RunPlan, folder: RunFolder) -> str:
    """Return a line about a run that is about to start."""
    saved = any(folder.path.glob("checkpoints/step-*/manifest.json"))
    kind = "virtual worker" if plan.cluster.virtual else "worker"
    workers = f"{plan.world_size} {kind}{'s' if plan.world_size > 1 else ''}"
    line = f"{plan.title}: {workers}, {'resuming in' if saved else 'in'} {relative(folder.path)}"
    if plan.experiment.extends is not None and not saved:
        line += f"; {describe_extension(plan.experiment, folder.path.parent)}"
    return line


def record(attempt: Attempt, command: Sequence[str], status: str, *, watched: bool) -> None:
    """Write ``spec.json`` and ``summary.json`` of an attempt that is about to start.

    Args:
        status: ``queued`` or ``running``.
        watched: whether this process stays to watch the workers, which then end with it.
    """
    plan, folder = attempt.plan, attempt.folder
    begin_extension(plan, folder)
    logs = folder.attempt(attempt.number)
    logs.mkdir(parents=True, exist_ok=True)
    for warning in provenance.code_changes(folder, plan, attempt.number):
        print(f"warning: {warning}", file=sys.stderr)
    spec = sign(
        {
            **plan.spec(),
            "provenance": provenance.record(folder.path, command),
            "attempt": {
                "number": attempt.number,
                "launcher": _this_launcher() if watched else None,
                "cuda_visible_devices": attempt.gpus,
            },
        }
    )
    write_json(folder.spec, spec)
    reserve.hold(folder, plan.processes)
    write_json(logs / "spec.json", spec)  # the next attempt rewrites spec.json itself
    set_status(folder, plan, status)


def enqueue(plan: RunPlan) -> None:
    """Record that a run waits for this process to start it; nothing if another process holds the run."""
    folder = RunFolder(plan.run_dir)
    if not folder.in_use():
        earlier = read_json(folder.spec) or {}
        attempt = {"number": folder.next_attempt(), "launcher": _this_launcher(), "cuda_visible_devices": None}
        write_json(folder.spec, sign({**earlier, **plan.spec(), "attempt": attempt}))
        set_status(folder, plan, "queued")


def set_status(folder: RunFolder, plan: RunPlan, status: str, error: dict[str, Any] | None = None) -> None:
    """Write a run's status, and keep what earlier attempts achieved, but not what they said of their mirror."""
    earlier = read_json(folder.summary) or {"steps": 0, "final": None, "best": None}
    earlier = {key: value for key, value in earlier.items() if key not in ("sync_command", "mirror_error")}
    write_json(folder.summary, {**earlier, "run_id": plan.run_id, "name": plan.name, "status": status, "error": error})


def conclude(folder: RunFolder, outcome: Outcome, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Bring ``summary.json`` in line with how all workers ended, and return it. Rank 0 has written its own end.

    In an elastic run the worker that was to write it may have died; then the result of another one counts.

    Args:
        rows: the last row of metrics of each split in this attempt.
    """
    reserve.release(folder)
    written = read_json(folder.summary)
    summary = dict(written or {"run_id": folder.path.name, "name": None})
    error = outcome.error and {key: outcome.error.get(key) for key in ("rank", "type", "message", "log")}
    if outcome.status != "completed":
        reached = max((row["step"] for row in rows.values()), default=summary.get("steps") or 0)
        summary = {
            **summary,
            "status": outcome.status,
            "steps": reached if outcome.status == "failed" else summary.get("steps") or reached,
            "final": _metrics(rows.get("val")) or summary.get("final"),
            "error": error,
        }
    elif summary.get("status") != "completed":
        summary |= next(filter(None, map(_result_in, sorted(folder.path.glob("rank-*.json")))), {})
    if replacements := count_replacements(folder):
        summary["replacements"] = replacements
    if summary != written:
        write_json(folder.summary, summary)
    return summary


def _this_launcher() -> dict[str, Any]:
    process = processes.this_process()
    return {"pid": process.pid, "started": process.started, "host": socket.gethostname()}


def _result_in(report: Path) -> dict[str, Any] | None:
    """Return what training returned to a worker that completed an elastic run, for ``summary.json``."""
    said = read_json(report) or {}
    result = said.get("result")
    return {**result, "error": None} if said.get("status") == "completed" and isinstance(result, dict) else None


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
