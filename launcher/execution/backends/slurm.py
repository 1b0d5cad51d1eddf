"""The backend that submits to SLURM, through submitit.

A run is one job with a task per worker; runs that need the same resources are one job array. The job script ends with
:mod:`launcher.execution.slurm_epilogue`, which finds out how the workers ended and may have the job requeued. The
script does that after the last worker has ended: workers may live in containers without SLURM's commands, and no
process of the job is left that could interfere.

An elastic run is one job, too. Each task is a keeper (:mod:`launcher.worker.keeper`) that replaces its worker at once,
without the scheduler. An array of one-task jobs, each requeued by itself, was the other choice. Its workers would start
one by one, so that some hold nodes while the rest queue, and two such runs could wait for each other for ever; and a
requeued job waits for the scheduler, and for the credential of its last start to expire, two minutes by default.
"""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor

from launcher.config.clusters import Device, SlurmCluster
from launcher.config.run_plan import RunPlan
from launcher.execution.backends.base import Attempt, SubmissionFailed
from launcher.execution.environment import hide_allocation
from launcher.execution.slurm_epilogue import REQUEUE
from launcher.runs.sweep import sweep_folder
from launcher.worker.worker import WorkerJob
from sgp_core.atomic_files import write_json

_LONGEST_ARRAY = 1000
"""SLURM's default limit is 1001 jobs an array."""
_NO_LIMIT = 1_000_000
"""submitit limits how often a job times out. Long runs do so often, so the limit is set out of reach."""
_EXIT_S = 90
"""How many seconds after the first worker the last one may exit: rank 0 closes Weights & Biases."""
_ENDS_TOGETHER = [
    "--kill-on-bad-exit=1",
    f"--wait={_EXIT_S}",  # srun would wait for ever for workers of a lost node
]
_GOES_ON = ["--no-kill", "--kill-on-bad-exit=0", "--wait=0"]
"""An elastic run goes on without a task that has died and without a node that is lost."""
_DEFER_SIGNALS = """sh -c 'trap "" USR1 USR2; exec "$0" "$@"'"""
"""Until a worker handles them, the signals that ask it to save would kill it."""


class JobArray:
    """Attempts that need the same resources: one job, or one array of jobs."""

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        self.attempts = list(attempts)
        plan = attempts[0].plan
        self._folder = _folder(attempts[0])
        self._executor = _Executor(self._folder, max_num_timeout=_NO_LIMIT, python=_python(plan))
        self._executor.update_parameters(**_parameters(plan, self._folder))

    def script(self) -> str:
        """Return the exact text that sbatch will be given. Nothing is written."""
        return self._executor.script(len(self.attempts))

    def submit(self) -> list[str]:
        """Submit, record in every run's folder which job it is, and return the job ids.

        Raises:
            SubmissionFailed: there is no SLURM here, or sbatch refused; the message is that of sbatch.
        """
        if shutil.which("sbatch") is None:
            raise SubmissionFailed("there is no SLURM here: sbatch is not found; dry_run=true works without SLURM")
        for attempt in self.attempts:  # first, so that a job whose number was not recorded is known to exist
            self._record(attempt, None)
        try:
            with hide_allocation(), contextlib.redirect_stderr(io.StringIO()):  # submitit echoes sbatch
                jobs = self._submit()
        except Exception as error:  # whatever sbatch or the file system reports
            for attempt in self.attempts:
                attempt.folder.job.unlink(missing_ok=True)
            raise SubmissionFailed(f"sbatch refused: {_message_of(error)}") from error
        for attempt, job in zip(self.attempts, jobs, strict=True):
            self._record(attempt, job)
        return jobs

    def _submit(self) -> list[str]:
        workers = [WorkerJob(str(attempt.folder.spec), attempt.number) for attempt in self.attempts]
        if len(workers) == 1:
            return [self._executor.submit(workers[0]).job_id]
        with self._executor.batch():
            jobs = [self._executor.submit(worker) for worker in workers]
        return [job.job_id for job in jobs]

    def _record(self, attempt: Attempt, job: str | None) -> None:
        note = {"scheduler": "slurm", "job_id": job, "attempt": attempt.number, "folder": str(self._folder)}
        write_json(attempt.folder.job, {**note, "submitted": time.time()})


def make_arrays(attempts: Sequence[Attempt]) -> list[JobArray]:
    """Group attempts of a sweep by the resources they need; a run outside of sweeps is a job of its own."""
    by_shape: dict[tuple[str, str], list[Attempt]] = {}
    for attempt in attempts:
        shape = json.dumps(attempt.plan.cluster.to_dict(), sort_keys=True)
        by_shape.setdefault((attempt.plan.sweep or attempt.plan.run_id, shape), []).append(attempt)
    return [
        JobArray(group[start : start + _LONGEST_ARRAY])
        for group in by_shape.values()
        for start in range(0, len(group), _LONGEST_ARRAY)
    ]


class _Executor(SlurmExecutor):
    """submitit's executor, except that it makes scripts where there is no SLURM, too."""

    @classmethod
    def name(cls) -> str:
        """Return submitit's name for SLURM, by which workers look up their environment."""
        return "slurm"

    @classmethod
    def affinity(cls) -> int:
        """Claim that SLURM is here: :meth:`JobArray.submit` notices if it is not."""
        return 2

    def script(self, count: int) -> str:
        """Return the job script of ``count`` jobs."""
        array = {"map_count": count} if count > 1 else {}
        before, self.parameters = self.parameters, {**self.parameters, **array}
        try:
            return str(self._make_submission_file_text(self._submitit_command_str, ""))
        finally:
            self.parameters = before


def _parameters(plan: RunPlan, folder: Path) -> dict[str, Any]:
    """Return submitit's parameters. Those that are not set are left out, so that the cluster's defaults hold."""
    cluster = _cluster(plan)
    gpus = cluster.gpus_per_node
    if gpus is None and cluster.device == Device.cuda:
        gpus = cluster.workers_per_node
    cpus = cluster.cpus_per_worker
    given = {
        "job_name": plan.sweep or plan.name,
        "nodes": cluster.nodes,
        "ntasks_per_node": cluster.workers_per_node,
        "cpus_per_task": cpus,
        "gpus_per_node": gpus or None,
        "mem": cluster.memory_gb and f"{int(cluster.memory_gb * 1024)}M",
        "time": cluster.timeout_min,
        "signal_delay_s": cluster.signal_delay_s,
        **{key: getattr(cluster, key) for key in ("partition", "account", "qos", "constraint", "exclude")},
        **{key: getattr(cluster, key) for key in ("mail_user", "mail_type", "array_parallelism")},
    }
    return {
        **{key: value for key, value in given.items() if value is not None},
        "wckey": None,
        "stderr_to_stdout": True,
        "setup": _setup(plan),
        "teardown": _teardown(plan, folder),
        "srun_args": [
            *(_GOES_ON if cluster.elastic else _ENDS_TOGETHER),
            *([f"--cpus-per-task={cpus}"] if cpus else []),  # since SLURM 22.05 srun does not take it from sbatch
            *cluster.srun_args,
        ],
        "additional_parameters": {
            "requeue": True,
            **({"no-kill": True} if cluster.elastic else {}),
            **{
                key: value for key, value in (cluster.additional_parameters or {}).items() if value not in (None, False)
            },
        },
    }


def _cluster(plan: RunPlan) -> SlurmCluster:
    assert isinstance(plan.cluster, SlurmCluster)
    return plan.cluster


def _setup(plan: RunPlan) -> list[str]:
    code = [f"export PYTHONPATH={shlex.quote(plan.snapshot)}${{PYTHONPATH:+:$PYTHONPATH}}"] if plan.snapshot else []
    return [
        "asked_to_end=  # set by scancel, or when another job needs the nodes: the workers save first",
        "trap 'asked_to_end=--asked-to-end' TERM",
        "export PYTHONSAFEPATH=1",
        "export SUBMITIT_LOG_LEVEL=${SUBMITIT_LOG_LEVEL:-WARNING}  # submitit's own lines would fill the workers' logs",
        *code,
        *_cluster(plan).setup,
    ]


def _teardown(plan: RunPlan, folder: Path) -> list[str]:
    python = _cluster(plan).python or shlex.quote(sys.executable)
    return [
        "code=$?",
        "job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}",
        f'{python} -m launcher.execution.slurm_epilogue {shlex.quote(str(folder))} "$job" $code $asked_to_end',
        "result=$?",
        f'[ $result -ne {REQUEUE} ] || exec scontrol requeue "$job"',
        "exit $result",
        "",
    ]


def _python(plan: RunPlan) -> str:
    return f"{_DEFER_SIGNALS} {_cluster(plan).python or shlex.quote(sys.executable)}"


def _folder(attempt: Attempt) -> Path:
    """Return where submitit keeps scripts, pickles and logs."""
    plan = attempt.plan
    if plan.sweep is not None:
        return sweep_folder(plan.run_dir.parent, plan.sweep) / "slurm"
    return attempt.folder.attempt(attempt.number)


def _message_of(error: Exception) -> str:
    """Return the first error that sbatch printed, else the first line of submitit's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    errors = [line.partition("sbatch: error: ")[2] for line in lines if "sbatch: error: " in line]
    return (errors or lines or [type(error).__name__])[0]
