"""What runs in every worker: from ``spec.json`` to a trained share of the model. The only thing submitit pickles.

Importing this module imports neither torch nor the configuration: a worker never composes.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher import mirror, network, processes, rendezvous
from launcher.run_folder import RunFolder, read_json, write_json
from sgp_core.errors import ConfigurationError

if TYPE_CHECKING:
    import torch

    from sgp_core.tracking import Tracker

Row = dict[str, Any]

_ALONE_S = 60.0
"""How long a worker that nobody looks after any more may take to save."""


class Wishes:
    """What signals have asked of this process; read between steps, since handlers cannot run inside a receive."""

    def __init__(self) -> None:
        self.stop = False
        self.requeue = False

    def listen(self) -> None:
        """SIGTERM asks to save and end, SIGUSR1 and SIGUSR2 to save, end and be queued again."""
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self._note)

    def start_elsewhere(self) -> None:
        """Wish to save, end and be queued again."""
        self.stop = self.requeue = True

    def _note(self, number: int, frame: object) -> None:
        self.stop = True
        self.requeue = self.requeue or number != signal.SIGTERM


WISHES = Wishes()


@dataclass(frozen=True)
class Place:
    """Where a worker stands among the others."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


@dataclass(frozen=True)
class Worker:
    """One task of a submitit job."""

    spec_path: str
    attempt: int

    def __call__(self) -> Row:
        """Run this worker's share and return its summary."""
        WISHES.listen()  # at once: a signal that comes now finds submitit's handlers
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
    share = _Share(spec, RunFolder(Path(spec["run_dir"])), attempt, place, separate, on_row)
    return share.run()


@dataclass
class _Share:
    spec: dict[str, Any]
    folder: RunFolder
    attempt: int
    place: Place
    separate: bool
    on_row: Callable[[Row], None] | None
    trackers: list[Tracker] = field(default_factory=list)

    def run(self) -> Row:
        """Train; whatever happens, say how it ended in ``rank-<k>.json``."""
        self.folder.attempt(self.attempt).mkdir(parents=True, exist_ok=True)
        self.report("starting")
        with contextlib.ExitStack() as held:
            try:
                if self.separate:
                    self.prepare_process()
                if self.on_slurm and self.place.rank == 0:  # elsewhere the launcher does this
                    held.enter_context(self.folder.lock(_ALONE_S))  # an earlier attempt may be about to leave
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
            self.report(ended["status"], requeue=WISHES.requeue)
            self.close_trackers(ended["status"], summary)
            if self.separate and self.place.world_size > 1:
                import torch.distributed as dist

                dist.destroy_process_group()
        return summary

    def update_summary(self, **news: Any) -> Row:
        """Bring ``summary.json`` up to date and return what it holds; what earlier attempts achieved is kept."""
        earlier = read_json(self.folder.summary) or {}
        summary = {**earlier, "run_id": self.spec["run_id"], "name": self.spec["name"], **news}
        write_json(self.folder.summary, summary)
        return summary

    # -- the process ----------------------------------------------------------------------------------------------
    def prepare_process(self) -> None:
        """Log crashes, turn signals into a wish that training reads at step boundaries, and end with the launcher."""
        gc.disable()  # imports make many objects and no garbage: looking for some takes a tenth of their time
        faulthandler.enable()
        atexit.register(_skip_teardown)  # first registered, so last called
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
        logging.getLogger("submitit").propagate = False  # it has a handler of its own
        launcher = self.spec["attempt"]["launcher"]
        if launcher is not None and launcher["host"] == socket.gethostname():
            processes.when_ended(processes.Process(launcher["pid"], launcher["started"]), _leave)
        parent = processes.process(os.getppid())
        if self.on_slurm and parent is not None:
            processes.when_ended(parent, _leave_slurm)

    @property
    def on_slurm(self) -> bool:
        """Whether SLURM started this worker, and nobody else watches it."""
        return bool(self.spec["cluster"]["name"] == "slurm")

    def prepare_torch(self) -> torch.device:
        """Set threads and network for the machine, join the other workers, and return this worker's device."""
        cluster = self.spec["cluster"]
        threads = cluster["threads_per_worker"] or self.cores()
        if self.separate:
            os.environ["OMP_NUM_THREADS"] = str(threads)
            if not self.on_slurm:  # submitit has replaced what the user or the queue chose
                _restore("CUDA_VISIBLE_DEVICES", self.spec["attempt"]["cuda_visible_devices"])
        import torch

        torch.set_num_threads(threads)
        torch.autograd.set_detect_anomaly(self.spec["debug"]["anomaly"])
        device = self.device(cluster["device"])
        if self.place.world_size > 1:
            self.join(device)
        return device

    def cores(self) -> int:
        """Return how many cores are this worker's."""
        here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        share = max(1, here // self.place.local_world_size)
        if not self.on_slurm:
            return share
        given = os.environ.get("SLURM_CPUS_PER_TASK")
        on_node = int(os.environ.get("SLURM_CPUS_ON_NODE", here))
        return min(here, int(given)) if given else max(1, min(here, on_node) // self.place.local_world_size)

    def device(self, wanted: str) -> torch.device:
        """Return the device to compute on. The CUDA branch has not been exercised on hardware."""
        import torch

        count, needed = torch.cuda.device_count(), self.place.local_world_size
        bound = self.on_slurm and count == 1  # SLURM may show each task its own GPU only
        if wanted == "cuda" and count < needed and not bound:
            raise ConfigurationError(
                f"cluster.device=cuda needs a GPU for each of {needed} workers on a machine, and {count} can be seen"
            )
        if wanted == "cpu" or (count < needed and not bound):
            return torch.device("cpu")
        index = 0 if bound else self.place.local_rank
        torch.cuda.set_device(index)
        return torch.device("cuda", index)

    def join(self, device: torch.device) -> None:
        """Initialise torch.distributed through a store that belongs to this attempt alone."""
        from datetime import timedelta

        import torch.distributed as dist

        cluster, folder = self.spec["cluster"], self.folder.attempt(self.attempt)
        rank, world_size = self.place.rank, self.place.world_size
        timeout = timedelta(seconds=cluster["process_group_timeout_s"])
        if self.on_slurm:
            network.use_interface(cluster["network"])
            interface = network.choose_interface(cluster["network"])
            store = rendezvous.store_across_machines(folder, rank, world_size, interface, timeout)
        else:
            if sys.platform == "linux":
                os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: nothing is offered to the network
            store = rendezvous.store_on_one_machine(folder, world_size)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)

    # -- training -------------------------------------------------------------------------------------------------
    def train(self) -> Row:
        """Train and return the summary."""
        device = self.prepare_torch()
        from launcher import faults
        from sgp_core.training.config import CheckpointConfig, EvaluationConfig, Experiment
        from sgp_core.training.loop import train

        if self.separate:
            gc.freeze()  # what was imported stays: training need not look at it again and again
            gc.enable()
        self.open_trackers()
        self.report("training")
        with faults.armed(self.spec["debug"], self.place.rank):
            return train(
                Experiment.from_dict(self.spec["experiment"]),
                directory=self.folder.path,
                device=device,
                evaluation=EvaluationConfig.from_dict(self.spec["evaluation"]),
                checkpoint=CheckpointConfig.from_dict(self.spec["checkpoint"]),
                log_every=self.spec["log_every"],
                trackers=self.trackers,
                on_progress=self.on_row if self.place.rank == 0 else None,
                should_stop=lambda: WISHES.stop,
            )

    def open_trackers(self) -> None:
        """Open ``metrics.jsonl``, the launcher's progress file and, where chosen, Weights & Biases."""
        from sgp_core.tracking import JsonlTracker

        if self.place.rank == 0:
            self.trackers.append(JsonlTracker(self.folder.metrics))
            if self.on_row is None:
                self.on_row = JsonlTracker(self.folder.progress(self.attempt)).log
        self.trackers += mirror.trackers(self.spec, self.folder.path, self.place.rank)

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


def _skip_teardown() -> None:
    """All is written and closed: taking a process full of torch apart object by object would take seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if hasattr(sys, "last_value") else 0)


def _leave() -> None:
    """The launcher is gone: nobody watches this worker any more, and the same command may start another."""
    me = os.getpid()
    processes.kill(lambda: processes.descendants(me), patience=1.0)
    os._exit(1)


def _leave_slurm() -> None:
    """SLURM's daemon for this node's workers is gone: it can neither signal nor end them, and forgets them."""
    WISHES.start_elsewhere()
    time.sleep(_ALONE_S)
    _leave()


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
