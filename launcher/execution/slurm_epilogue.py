"""The epilogue of a SLURM job: find out how its workers ended, record it, and decide whether the job is requeued.

The job script ends with ``python -m launcher.execution.slurm_epilogue FOLDER JOB CODE [--asked-to-end]`` on the first
node. Exit codes: 0 the run is complete or was cancelled, :data:`REQUEUE` start the job again, 1 the run failed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.config.clusters import SlurmCluster
from launcher.console.progress import Tail
from launcher.execution.backends.base import Outcome
from launcher.execution.run_lifecycle import conclude
from launcher.runs.failure import ENDED, NODE_LOST, SUCCESSFUL, WORKER_DIED, Report, add_log, find_culprit, read_reports
from launcher.runs.membership import MembershipFiles, find_last_culprit
from launcher.runs.run_folder import RunFolder
from launcher.system import slurm_cli
from sgp_core.atomic_files import read_json

REQUEUE = 75
"""Exit code (``EX_TEMPFAIL``) upon which the job script requeues the job."""

_LARGEST_CODE = 128
"""Exit codes of srun above this one stand for the signal that killed a worker."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Conclude one attempt of a job, and return the exit code."""
    parser = argparse.ArgumentParser(prog="launcher.execution.slurm_epilogue")
    parser.add_argument("folder", type=Path)
    parser.add_argument("job")
    parser.add_argument("code", type=int)
    parser.add_argument("--asked-to-end", action="store_true")
    given = parser.parse_args(arguments)

    folder, attempt, spec = _run_of(given.folder, given.job)
    world_size, cluster = spec["experiment"]["world_size"], spec.get("cluster") or {}
    reports = read_reports(folder, world_size, attempt)
    how: dict[str, Any] = {"code": given.code, "asked_to_end": given.asked_to_end}
    judgement = judge_elastic(folder.attempt(attempt), reports, world_size, **how) if cluster.get("elastic") else None
    outcome, again = judgement or judge(reports, world_size, **how)
    requeued = given.asked_to_end and outcome.status != "completed" and _is_requeued(given.job)
    if requeued:  # by the user, or because a node was lost: SLURM starts it again without being asked
        outcome, again = Outcome("preempted"), False
    if folder.cancel.exists():  # a cancelled run is not requeued, whatever its workers reported
        folder.cancel.unlink(missing_ok=True)
        outcome, again = (outcome if outcome.status == "completed" else Outcome("cancelled")), False
    most = cluster.get("starts_without_checkpoint", SlurmCluster.starts_without_checkpoint)
    again = again and not (outcome.status == "failed" and _starts_without_progress(folder) >= most)
    if outcome.error is not None:
        outcome = Outcome("preempted" if again else outcome.status, add_log(outcome.error, folder, attempt))
    conclude(folder, outcome, {row["split"]: row for row in Tail(folder.progress(attempt)).rows()})
    print(f"run {folder.path.name}, attempt {attempt}: {outcome.status}{', requeued' if again or requeued else ''}")
    if again:
        return REQUEUE
    return 1 if outcome.status == "failed" else 0


def judge(reports: Mapping[int, Report], world_size: int, code: int, *, asked_to_end: bool) -> tuple[Outcome, bool]:
    """Return how an attempt ended, and whether its job is requeued.

    Args:
        reports: of the workers, by rank.
        world_size: number of workers.
        code: exit code of srun; above 128 where a signal killed a worker.
        asked_to_end: whether SLURM asked the whole job to end.
    """
    statuses = {report["status"] for report in reports.values()}
    complete = len(reports) == world_size
    if complete and statuses == {"completed"}:
        return Outcome("completed"), False
    if complete and statuses <= set(SUCCESSFUL):
        # To make room, SLURM signals only the workers, on some clusters by SIGTERM; scancel signals the script, too.
        again = not asked_to_end or any(report.get("requeue") for report in reports.values())
        return Outcome("preempted" if again else "cancelled"), again
    silent = [rank for rank in range(world_size) if rank not in reports or reports[rank]["status"] not in ENDED]
    culprit = find_culprit(reports, silent, world_size)
    if culprit["type"] == WORKER_DIED:
        if asked_to_end:
            return Outcome("cancelled"), False
        if culprit["rank"] in reports and code <= _LARGEST_CODE:  # it trained, and SLURM does not know how it ended
            lost = {**culprit, "type": NODE_LOST, "message": "SLURM lost the node of this worker"}
            return Outcome("failed", error=lost), True
    return Outcome("failed", error=culprit), False


def judge_elastic(
    attempt: Path, reports: Mapping[int, Report], world_size: int, code: int, *, asked_to_end: bool
) -> tuple[Outcome, bool] | None:
    """Return how an attempt of an elastic run ended, like :func:`judge`; None if that can tell.

    Those that completed or saved decide. Without any it is a failure that a keeper recorded; without such a record,
    SLURM has ended the keepers, too.

    Args:
        attempt: the folder of the attempt.
    """
    files = MembershipFiles(attempt)
    done = {rank: report for rank, report in reports.items() if report["status"] in SUCCESSFUL}
    if done and not files.given_up.exists():
        return judge(done, len(done), code, asked_to_end=asked_to_end)
    culprit = find_last_culprit(attempt, reports, world_size)
    if asked_to_end or not (files.given_up.exists() or files.deaths(culprit["rank"]).exists()):
        return None
    return Outcome("failed", error=culprit), False


def _starts_without_progress(folder: RunFolder) -> int:
    """Return how many attempts have been made since the last checkpoint."""
    saved = max((path.stat().st_mtime for path in folder.path.glob("checkpoints/step-*/manifest.json")), default=0.0)
    begun = (path for name in ("rendezvous.json", "members") for path in folder.path.glob(f"logs/attempt-*/{name}"))
    return sum(path.stat().st_mtime > saved for path in begun)


def _is_requeued(job: str) -> bool:
    """Whether SLURM has queued the job again: then the request to end was no cancellation."""
    restarts = slurm_cli.count_restarts(job)
    return restarts is not None and restarts > int(os.environ.get("SLURM_RESTART_COUNT", 0))


def _run_of(folder: Path, job: str) -> tuple[RunFolder, int, dict[str, Any]]:
    """Return the run of a job: its folder, the number of the attempt, what its ``spec.json`` holds."""
    from submitit.core.utils import DelayedSubmission, JobPaths

    worker: Any = DelayedSubmission.load(JobPaths(folder, job).submitted_pickle).function
    spec = read_json(Path(worker.spec_path)) or {}
    attempt = worker.attempt + int(os.environ.get("SLURM_RESTART_COUNT", 0))
    return RunFolder(Path(worker.spec_path).parent), attempt, spec


if __name__ == "__main__":
    sys.exit(main())
