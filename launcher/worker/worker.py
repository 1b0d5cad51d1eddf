"""What runs in every worker: from ``spec.json`` to a trained share of the model. The only thing submitit pickles.

Importing this module imports neither torch nor the configuration: a worker never composes.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.config.run_plan import RunPlan, plan_of_spec
from launcher.config.schema import SlurmCluster
from launcher.runs.run_folder import RunFolder, read_json, write_json
from launcher.system import processes
from launcher.wandb.run import trackers
from launcher.worker import device_setup
from launcher.worker.device_setup import Place
from launcher.worker.process_setup import ALONE_S, SIGNAL_REQUESTS, prepare_process
from sgp_core.errors import ConfigurationError

if TYPE_CHECKING:
    from sgp_core.tracking import Tracker

Row = dict[str, Any]


@dataclass(frozen=True)
class WorkerJob:
    """One task of a submitit job."""

    spec_path: str
    attempt: int

    def __call__(self) -> Row:
        """Run this worker's share and return its summary."""
        SIGNAL_REQUESTS.listen()  # at once: a signal that comes now finds submitit's handlers
        import submitit

        task = submitit.JobEnvironment()
        place = Place(
            rank=task.global_rank,
            world_size=task.num_tasks,
            local_rank=task.local_rank,
            local_world_size=task.num_tasks // task.num_nodes,
        )
        restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))  # SLURM starts the same pickle again
        return run_worker(Path(self.spec_path), self.attempt + restarts, place, separate=True)

    def checkpoint(self) -> Any:
        """Answer submitit, should a signal come before our handlers are there: nothing is lost, start again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def run_worker(
    spec_path: Path,
    attempt: int,
    place: Place,
    *,
    separate: bool,
    on_row: Callable[[Row], None] | None = None,
) -> Row:
    """Train one worker's share of the run that ``spec_path`` describes.

    Args:
        attempt: which start of the run this is, from 1.
        separate: whether this process exists for the worker alone, and may take signals and end with the launcher.
        on_row: called on rank 0 with every row of metrics.

    Returns:
        The summary, as in ``summary.json``.
    """
    spec = read_json(spec_path)
    if spec is None:
        raise RuntimeError(f"{spec_path} cannot be read")
    return _Share(spec, plan_of_spec(spec), attempt, place, separate, on_row).run()


@dataclass
class _Share:
    spec: dict[str, Any]
    plan: RunPlan
    attempt: int
    place: Place
    separate: bool
    on_row: Callable[[Row], None] | None
    trackers: list[Tracker] = field(default_factory=list)

    @property
    def folder(self) -> RunFolder:
        """The run's folder."""
        return RunFolder(self.plan.run_dir)

    @property
    def on_slurm(self) -> bool:
        """Whether SLURM has started the workers, and no launcher watches them."""
        return isinstance(self.plan.cluster, SlurmCluster)

    def run(self) -> Row:
        """Train; whatever happens, say how it ended in ``rank-<k>.json``."""
        self.folder.attempt(self.attempt).mkdir(parents=True, exist_ok=True)
        self.report("starting")
        with contextlib.ExitStack() as held:
            try:
                if self.separate:
                    prepare_process(self.spec["attempt"]["launcher"], slurm=self.on_slurm)
                if self.on_slurm and self.place.rank == 0:  # elsewhere the launcher does this
                    held.enter_context(self.folder.lock(ALONE_S))  # an earlier attempt may be about to leave
                    self.update_summary(status="running", error=None)
                ended = self.train()
            except BaseException as error:
                if type(error).__name__ != "Preempted":
                    status = "cancelled" if isinstance(error, KeyboardInterrupt) else "failed"
                    self.report(status, error=_describe(error))
                    self.close_trackers(status, {})
                    raise
                ended = {"status": "preempted", "steps": getattr(error, "step", None)}
            summary = ended
            if self.place.rank == 0:
                summary = self.update_summary(**ended, sync_command=self.sync_command(), error=None)
            self.report(ended["status"], requeue=SIGNAL_REQUESTS.requeue)
            self.close_trackers(ended["status"], summary)
            if self.separate and self.place.world_size > 1:
                import torch.distributed as dist

                dist.destroy_process_group()
        return summary

    def update_summary(self, **news: Any) -> Row:
        """Bring ``summary.json`` up to date and return what it holds; what earlier attempts achieved is kept."""
        earlier = read_json(self.folder.summary) or {}
        summary = {**earlier, "run_id": self.plan.run_id, "name": self.plan.name, **news}
        write_json(self.folder.summary, summary)
        return summary

    # -- training -------------------------------------------------------------------------------------------------
    def train(self) -> Row:
        """Train and return the summary."""
        plan = self.plan
        gpus = self.spec.get("attempt", {}).get("cuda_visible_devices")
        attempt_folder = self.folder.attempt(self.attempt)
        device = device_setup.prepare(plan, self.place, attempt_folder, gpus, separate=self.separate)
        from launcher.worker import fault_injection
        from sgp_core.training.loop import train

        if self.separate:
            gc.freeze()  # what was imported stays: training need not look at it again and again
            gc.enable()
        self.open_trackers()
        self.report("training")
        with fault_injection.armed(plan.debug, self.place.rank):
            return train(
                plan.experiment,
                directory=self.folder.path,
                device=device,
                evaluation=plan.evaluation,
                checkpoint=plan.checkpoint,
                loader=plan.loader,
                log_every=plan.log_every,
                trackers=self.trackers,
                on_progress=self.on_row if self.place.rank == 0 else None,
                should_stop=lambda: SIGNAL_REQUESTS.stop,
                timeline_steps=plan.debug.timeline_steps,
                transport=plan.cluster.transport,
                step_in_backward=plan.cluster.step_in_backward,
            )

    def open_trackers(self) -> None:
        """Open ``metrics.jsonl``, the launcher's progress file and, where chosen, Weights & Biases."""
        from sgp_core.tracking import JsonlTracker

        if self.place.rank == 0:
            self.trackers.append(JsonlTracker(self.folder.metrics))
            if self.on_row is None:
                self.on_row = JsonlTracker(self.folder.progress(self.attempt)).log
        self.trackers += trackers(self.spec, self.folder.path, self.place.rank)

    def close_trackers(self, status: str, summary: Row) -> None:
        """Close what was opened; a tracker that cannot be closed is no reason to fail."""
        for tracker in self.trackers:
            try:
                tracker.finish(status, summary)
            except Exception:
                logging.getLogger(__name__).exception("a tracker could not be closed")

    def sync_command(self) -> str | None:
        """Return the command that uploads what Weights & Biases wrote offline."""
        return next((command for t in self.trackers if (command := getattr(t, "sync_command", None))), None)

    def report(self, status: str, **more: Any) -> None:
        """Write ``rank-<k>.json``: the launcher judges a run by these files, all of them."""
        me = processes.this_process()
        if self.on_slurm:
            more = {"job_id": os.environ.get("SLURM_JOB_ID"), "node": os.environ.get("SLURMD_NODENAME"), **more}
        write_json(
            self.folder.rank(self.place.rank),
            {
                "rank": self.place.rank,
                "status": status,
                "attempt": self.attempt,
                "pid": me.pid,
                "started": me.started,
                "host": socket.gethostname(),
                "time": time.time(),
                **more,
            },
        )


def _describe(error: BaseException) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
        "user_mistake": isinstance(error, ConfigurationError),
    }
