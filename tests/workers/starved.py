"""Two workers, one of which hardly gets a processor for a step, or, to compare, does not want one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn

from sgp_core import Gossip
from sgp_core.errors import WorkerHung
from sgp_core.watchdog import Watchdog

PATIENCE_S = 2.0
COMPUTES_S = 0.3
"""What the forward pass of the starved worker takes of a processor."""
SPINS = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
"""A program that computes for as long as the process that started it lives."""


class Computes(nn.Linear):
    """A layer whose forward pass takes so many seconds of a processor."""

    computes_s = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute."""
        end = time.thread_time() + self.computes_s
        while time.thread_time() < end:
            pass
        return super().forward(x)


@contextmanager
def little_processor() -> Iterator[None]:
    """Leave this thread about a tenth of one processor, of which another process takes the rest."""
    before = os.sched_getaffinity(0)
    one = min(before)
    os.sched_setaffinity(0, {one})
    other = subprocess.Popen([sys.executable, "-c", SPINS])
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    try:
        yield
    finally:
        other.kill()
        other.wait()
        os.sched_setaffinity(0, before)


def train() -> tuple[str, float]:
    """Take three steps, of which rank 1 is starved in the second; return a hang, and the seconds of that step."""
    model = Computes(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    gossip = Gossip(model, optimizer, algorithm="sgp", topology="ring")
    took_s = 0.0

    def step() -> None:
        optimizer.zero_grad()
        model(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()

    try:
        with Watchdog(PATIENCE_S, PATIENCE_S, interval_s=0.1) as dog, dog.watch(model, optimizer, gossip):
            step()
            if dist.get_rank() == 1:
                model.computes_s = COMPUTES_S
                begin = time.monotonic()
                with little_processor():
                    step()
                took_s = time.monotonic() - begin
            else:
                step()
            model.computes_s = 0.0
            step()
    except WorkerHung as error:
        return str(error), took_s
    return "", took_s
