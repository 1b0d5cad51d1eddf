"""What runs in every worker: it reads ``spec.json`` and trains one replica. The only thing that submitit pickles.

Importing this module imports neither torch nor Hydra: a worker never composes settings.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.config.clusters import SlurmCluster
from launcher.config.run_plan import RunPlan, plan_of_spec
from launcher.config.schema import DebugOptions
from launcher.runs.reserve import write_last
from launcher.runs.run_folder import RunFolder
from launcher.worker import device_setup
from launcher.worker.device_setup import Place
from launcher.worker.elastic_group import MembershipLog, form_group
from launcher.worker.process_setup import ALONE_S, SIGNAL_REQUESTS, prepare_process, watching_process
from launcher.worker.report import WorkerReport, describe_error
from launcher.worker.trackers import WorkerTrackers
from launcher.worker.warning_log import keep_warnings
from sgp_core.atomic_files import read_json
from sgp_core.errors import Expelled
from sgp_core.plugins import changed_sources, load_recorded_plugins

if TYPE_CHECKING:
    from sgp_core.training.virtual.world import VirtualWorld

Row = dict[str, Any]


@dataclass(frozen=True)
class WorkerJob:
    """One task of a submitit job."""

    spec_path: str
    attempt: int

    def __call__(self) -> Row:
        """Run this worker and return its summary."""
        SIGNAL_REQUESTS.listen()  # first of all: until now submitit's handlers would answer a signal
        import submitit

        task = submitit.JobEnvironment()
        place = Place(
            rank=task.global_rank,
            world_size=task.num_tasks,
            local_rank=task.local_rank,
            local_world_size=task.num_tasks // task.num_nodes,
        )
        restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))  # SLURM starts the same pickle again
        spec_path, attempt = Path(self.spec_path), self.attempt + restarts
        cluster = (read_json(spec_path) or {}).get("cluster") or {}
        if cluster.get("elastic"):
            return keep_worker(spec_path, attempt, place)
        return run_worker(spec_path, attempt, place, separate=True)

    def checkpoint(self) -> Any:
        """Answer submitit if a signal comes before :meth:`__call__`: nothing is lost, so start again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def keep_worker(spec_path: Path, attempt: int, place: Place) -> Row:
    """Run workers of one rank of an elastic run, one after another as they die, and return the last one's report."""
    from launcher.worker.keeper import Keeper

    launcher = ((read_json(spec_path) or {}).get("attempt") or {}).get("launcher")
    folder = RunFolder(spec_path.parent)
    folder.attempt(attempt).mkdir(parents=True, exist_ok=True)

    def work(number: int) -> Row:
        return run_worker(spec_path, attempt, place, separate=True, number=number)

    return Keeper(folder, attempt, place.rank, place.world_size, work, watching_process(launcher)).run()


def run_worker(
    spec_path: Path,
    attempt: int,
    place: Place,
    *,
    separate: bool,
    on_row: Callable[[Row], None] | None = None,
    number: int = 1,
) -> Row:
    """Train one worker of the run that ``spec_path`` describes.

    Args:
        attempt: number of this start of the run, from 1.
        separate: whether this process exists for the worker alone. It then takes signals and ends with the launcher.
        on_row: called on rank 0 with every row of metrics.
        number: counts the processes of this rank in the attempt; above 1 in an elastic run whose worker has died.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        ConfigurationError: the spec is damaged, or its settings do not fit this machine.
        RuntimeError: the spec cannot be read.
    """
    spec = read_json(spec_path)
    if spec is None:
        raise RuntimeError(f"{spec_path} cannot be read")
    return _Worker(spec, plan_of_spec(spec), attempt, place, separate, on_row, number).run()


@dataclass
class _Worker:
    spec: dict[str, Any]
    plan: RunPlan
    attempt: int
    place: Place
    separate: bool
    on_row: Callable[[Row], None] | None
    number: int

    @cached_property
    def folder(self) -> RunFolder:
        """The run's folder."""
        return RunFolder(self.plan.run_dir)

    @cached_property
    def on_slurm(self) -> bool:
        """Whether SLURM starts the workers, so that no launcher watches them."""
        return isinstance(self.plan.cluster, SlurmCluster)

    @cached_property
    def report(self) -> WorkerReport:
        """This worker's ``rank-<k>.json``."""
        return WorkerReport(self.folder, self.place.rank, self.attempt, self.on_slurm)

    @cached_property
    def trackers(self) -> WorkerTrackers:
        """The trackers of this worker's rows; none is open yet."""
        speaks = self.membership.speaks if self.plan.cluster.elastic else None
        begins = self.number == 1
        return WorkerTrackers(self.spec, self.folder, self.place.rank, self.attempt, self.on_row, speaks, begins)

    @cached_property
    def membership(self) -> MembershipLog:
        """What this worker knows of the members of an elastic run."""

        def report() -> None:
            self.report.write("training", member=True)

        return MembershipLog(self.folder, self.attempt, self.place.rank, self.place.world_size, report)

    def speaks(self, step: int) -> bool:
        """Whether this worker writes what concerns the whole run after so many steps."""
        return self.membership.speaks(step) if self.plan.cluster.elastic else self.place.rank == 0

    def run(self) -> Row:
        """Train, report how it ended, and return the summary."""
        self.folder.attempt(self.attempt).mkdir(parents=True, exist_ok=True)
        self.folder.same.check()
        self.report.write("starting")
        self.say(f"worker {self.place.rank} of {self.place.world_size}, attempt {self.attempt}, process {os.getpid()}")
        with contextlib.ExitStack() as held:
            held.enter_context(keep_warnings(self.report.warnings))
            try:
                if self.separate:
                    of_slurm = self.on_slurm and not self.plan.cluster.elastic  # there it ends with its keeper
                    prepare_process(self.spec["attempt"]["launcher"], slurm=of_slurm)
                if self.on_slurm and self.place.rank == 0:  # elsewhere the launcher holds the lock
                    held.enter_context(self.folder.lock(ALONE_S))  # an earlier attempt may still be ending
                    self.update_summary(status="running", error=None, **self.trackers.mirror())
                result = self.train()
            except Expelled as error:
                self.report.write("expelled", member=True)
                self.say(f"worker {self.place.rank}: {error}")
                return {"status": "expelled"}
            except BaseException as error:
                status = "cancelled" if isinstance(error, KeyboardInterrupt) else "failed"
                member = {"member": self.membership.joined} if self.plan.cluster.elastic else {}
                self.report.write(status, error=describe_error(error, self.place.rank), **member)
                self.trackers.close(status, {})
                raise
            summary = result
            if self.speaks(result["steps"]):
                summary = self.update_summary(**result, error=None)
            kept = {"member": True, "result": result} if self.plan.cluster.elastic else {}
            self.report.write(result["status"], requeue=SIGNAL_REQUESTS.requeue, **kept)
            self.say(f"worker {self.place.rank}: {result['status']} after {result['steps']} steps")
            self.trackers.close(result["status"], summary)
            if self.place.rank == 0:  # only now it is known what Weights & Biases has
                summary = self.update_summary(**self.trackers.mirror())
            if self.separate and self.place.world_size > 1 and not self.plan.cluster.elastic:
                import torch.distributed as dist

                dist.destroy_process_group()
        return summary

    def say(self, message: str) -> None:
        """Print a line to this worker's log, if it has one."""
        if self.separate:
            print(message, flush=True)

    def virtual_world(self) -> VirtualWorld | None:
        """Return the world of virtual workers; None where each worker is a process."""
        if not self.plan.cluster.virtual:
            return None
        from sgp_core.clock import build_computation, build_network_model
        from sgp_core.training.virtual.world import VirtualWorld

        return VirtualWorld(build_network_model(self.plan.network), build_computation(self.plan.computation))

    def update_summary(self, **news: Any) -> Row:
        """Update ``summary.json``, keep what earlier attempts achieved, and return its content."""
        earlier = read_json(self.folder.summary) or {}
        summary = {**earlier, "run_id": self.plan.run_id, "name": self.plan.name, **news}
        write_last(self.folder, self.folder.summary, summary)
        return summary

    def train(self) -> Row:
        """Train until the end or a request to stop, and return what :func:`sgp_core.training.train` returns."""
        plan = self.plan
        gpus = self.spec.get("attempt", {}).get("cuda_visible_devices")
        attempt_folder = self.folder.attempt(self.attempt)
        device = device_setup.prepare(plan, self.place, attempt_folder, gpus, separate=self.separate)
        for path in changed_sources(plan.plugins, load_recorded_plugins(plan.plugins)):
            logging.getLogger(__name__).warning("%s has changed since the launcher read it", path)
        if plan.calibration_s is not None:
            from sgp_core.calibration.calibrate import calibrate

            found = calibrate(
                plan.experiment, device, self.place.local_world_size, plan.cluster.transport, plan.calibration_s
            )
            return {"status": "completed", "steps": 0, "final": None, "best": None, "calibration": found}
        from launcher.worker.fault_injection import PlannedFaults
        from launcher.worker.watching import watch_worker
        from sgp_core.faults.links import link_faults
        from sgp_core.faults.phrases import parse_faults
        from sgp_core.training.loop import Preempted, train

        if self.separate:
            gc.freeze()  # imported objects stay for good: garbage collection need not visit them
            gc.enable()
        self.trackers.open()
        more: dict[str, Any] = {}
        if plan.cluster.elastic:
            more["elastic"] = group = form_group(plan, self.place, attempt_folder, self.membership)
            if group.founder:
                self.membership.begin()
        else:
            self.report.write("training")
        planned = plan
        if self.number > 1:  # a replacement does not fail on purpose again
            planned = dataclasses.replace(plan, debug=DebugOptions())
        try:
            with watch_worker(plan, attempt_folder, self.report) as watchdog:
                result = train(
                    plan.experiment,
                    directory=self.folder.path,
                    device=device,
                    evaluation=plan.evaluation,
                    checkpoint=plan.checkpoint,
                    loader=plan.loader,
                    log_every=plan.log_every,
                    trackers=self.trackers.opened,
                    on_progress=self.trackers.on_row,
                    should_stop=lambda: SIGNAL_REQUESTS.stop,
                    timeline_steps=plan.debug.timeline_steps,
                    transport=plan.cluster.transport,
                    step_in_backward=plan.cluster.step_in_backward,
                    virtual=self.virtual_world(),
                    link_faults=link_faults(parse_faults(plan.faults)),
                    companions=[watchdog, PlannedFaults(planned).accompany],
                    **more,
                )
        except Preempted as stop:
            result = {"status": "preempted", "steps": stop.step}
        if (elastic := more.get("elastic")) is not None:
            elastic.close()  # or those that end later would take this member for dead
        return result
