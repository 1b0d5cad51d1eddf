"""Training in real workers that a test can kill."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sgp_core.tracking import JsonlTracker, read_rows
from sgp_core.training.loop import train
from tests.support.workers import _CONTEXT, GROUP_TIMEOUT
from tests.training import tiny


class Workers:
    """``world_size`` processes that train ``experiment`` in ``directory``, metrics included."""

    def __init__(self, directory: Path, experiment: dict[str, Any], settings: dict[str, Any]) -> None:
        self.directory = directory
        self._meeting = tempfile.TemporaryDirectory()
        world_size = experiment["world_size"]
        self.processes: list[BaseProcess] = [
            _CONTEXT.Process(
                target=_work, args=(rank, self._meeting.name, directory, experiment, settings), daemon=False
            )
            for rank in range(world_size)
        ]
        for process in self.processes:
            process.start()

    def wait_for_step(self, step: int) -> None:
        """Return as soon as a row of ``step`` or later is on file."""
        path = self.directory / "metrics.jsonl"
        while not (path.exists() and any(row["step"] >= step for row in read_rows(path))):
            assert all(process.exitcode in (None, 0) for process in self.processes), "a worker died by itself"
            time.sleep(0.002)

    def kill(self) -> None:
        """SIGKILL them all, and check that this is what ended them."""
        for process in self.processes:
            os.kill(process.pid, signal.SIGKILL)
        self._join()
        assert [process.exitcode for process in self.processes] == [-signal.SIGKILL] * len(self.processes)

    def finish(self) -> None:
        """Wait for the end of training."""
        self._join()
        assert [process.exitcode for process in self.processes] == [0] * len(self.processes)

    def _join(self) -> None:
        try:
            for process in self.processes:
                process.join(120)
        finally:
            for process in self.processes:
                process.kill()
            self._meeting.cleanup()


def _work(rank: int, meeting: str, directory: Path, experiment: dict[str, Any], settings: dict[str, Any]) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    world_size = experiment["world_size"]
    store = dist.FileStore(str(Path(meeting, "store")), world_size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=GROUP_TIMEOUT)
    trackers = [JsonlTracker(directory / "metrics.jsonl")] if rank == 0 else []
    with tiny.known():
        train(
            tiny.Experiment.from_dict(experiment), directory=directory, trackers=trackers, **tiny.settings(**settings)
        )
    dist.destroy_process_group()
