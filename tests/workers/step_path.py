"""Run in worker processes: which files one step of SGP over messages passes through."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import torch
import torch.distributed as dist
from torch import nn

import sgp_core

PACKAGE = Path(sgp_core.__file__).parent


def files_of_a_step() -> list[str]:
    """Return the package's files whose functions a steady, synchronous step over p2p calls."""
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    topology = sgp_core.build_topology("one_peer_exponential", world_size=dist.get_world_size())
    algorithm = sgp_core.build_algorithm("sgp")
    gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, transport="p2p")
    files: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            files.add(path.relative_to(PACKAGE).as_posix())

    for _ in range(2 * topology.period):  # every graph, and every shape of message, has occurred
        model(torch.ones(2, 8)).sum().backward()
        optimizer.step()
    model(torch.ones(2, 8)).sum().backward()
    sys.setprofile(note)
    optimizer.step()
    sys.setprofile(None)
    gossip.close()
    return sorted(files)
