"""The last line of a SLURM job: judge how its workers ended, write it down, and say what is to become of the job.

``python -m launcher.execution.slurm_epilogue FOLDER JOB CODE [--asked-to-end]``, run by the job script on the first
node. Exit codes:
0 the run is complete or was cancelled, :data:`REQUEUE` start the job again, 1 it failed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.console.progress import Tail
from launcher.execution.backends.base import Outcome
from launcher.execution.run_lifecycle import conclude
from launcher.runs.failure import ENDED, NODE_LOST, SUCCESSFUL, WORKER_DIED, Report, add_log, find_culprit, read_reports
from launcher.runs.run_folder import RunFolder, read_json

REQUEUE = 75
"""Exit code (``EX_TEMPFAIL``) that has the job script queue the job again."""

_STARTS_WITHOUT_PROGRESS = 3
"""How often a job that lost its workers, not by their own fault, is started again without a new checkpoint."""


_LARGEST_CODE = 128
"""A larger exit code of srun names the signal that killed a worker."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Conclude one attempt of one job."""
    parser = argparse.ArgumentParser(prog="launcher.execution.slurm_epilogue")
    parser.add_argument("folder", type=Path)
    parser.add_argument("job")
    parser.add_argument("code", type=int)
    parser.add_argument("--asked-to-end", action="store_true")
    given = parser.parse_args(arguments)

    folder, attempt, world_size = _run_of(given.folder, given.job)
    said = read_reports(folder, world_size, attempt)
    outcome, again = judge(said, world_size, given.code, asked_to_end=given.asked_to_end)
    if folder.cancel.exists():  # by somebody who need not know whether the workers were about to be started again
        folder.cancel.unlink(missing_ok=True)
        outcome, again = (outcome if outcome.status == "completed" else Outcome("cancelled")), False
    again = again and not (outcome.status == "failed" and _starts_in_vain(folder) >= _STARTS_WITHOUT_PROGRESS)
    if outcome.error is not None:
        outcome = Outcome("preempted" if again else outcome.status, add_log(outcome.error, folder, attempt))
    conclude(folder, outcome, {row["split"]: row for row in Tail(folder.progress(attempt)).rows()})
    print(f"run {folder.path.name}, attempt {attempt}: {outcome.status}{', queued again' if again else ''}")
    if again:
        return REQUEUE
    return 1 if outcome.status == "failed" else 0


def judge(said: Mapping[int, Report], world_size: int, code: int, *, asked_to_end: bool) -> tuple[Outcome, bool]:
    """Return how an attempt ended and whether it is to be started again.

    Args:
        said: what the workers said of themselves.
        code: of srun; above 128 where a worker was killed by a signal.
        asked_to_end: SLURM asked the whole job to end.
    """
    statuses = {report["status"] for report in said.values()}
    complete = len(said) == world_size
    if complete and statuses == {"completed"}:
        return Outcome("completed"), False
    if complete and statuses <= set(SUCCESSFUL):
        # Asked to make room, by SIGTERM on some clusters, only the workers are signalled; by scancel the script is too.
        again = not asked_to_end or any(report.get("requeue") for report in said.values())
        return Outcome("preempted" if again else "cancelled"), again
    silent = [rank for rank in range(world_size) if rank not in said or said[rank]["status"] not in ENDED]
    culprit = find_culprit(said, silent, world_size)
    if culprit["type"] == WORKER_DIED:
        if asked_to_end:
            return Outcome("cancelled"), False
        if culprit["rank"] in said and code <= _LARGEST_CODE:  # it trained, and SLURM cannot say how it ended
            lost = {**culprit, "type": NODE_LOST, "message": "SLURM lost sight of this worker's node"}
            return Outcome("failed", error=lost), True
    return Outcome("failed", error=culprit), False


def _starts_in_vain(folder: RunFolder) -> int:
    """Return how many attempts have been made since the last checkpoint."""
    saved = max((path.stat().st_mtime for path in folder.path.glob("checkpoints/*/manifest.json")), default=0.0)
    return sum(path.stat().st_mtime > saved for path in folder.path.glob("logs/attempt-*/rendezvous.json"))


def _run_of(folder: Path, job: str) -> tuple[RunFolder, int, int]:
    """Return the run that a job is an attempt of: its folder, the attempt's number, the number of workers."""
    from submitit.core.utils import DelayedSubmission, JobPaths

    worker: Any = DelayedSubmission.load(JobPaths(folder, job).submitted_pickle).function
    spec = read_json(Path(worker.spec_path)) or {}
    attempt = worker.attempt + int(os.environ.get("SLURM_RESTART_COUNT", 0))
    return RunFolder(Path(worker.spec_path).parent), attempt, spec["experiment"]["world_size"]


if __name__ == "__main__":
    sys.exit(main())
