"""Members of an elastic group as threads of one process: a dropped group is, to the others, a worker that has died."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import sgp_core
from sgp_core.elastic import Change, ElasticGroup
from sgp_core.errors import PeerLost

WAIT_S = 30.0
"""A guard against hanging; nothing is decided by it."""


class Model(nn.Module):
    """One vector; its gradient is ``z`` minus a target."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.vector = nn.Parameter(start.clone())

    def loss(self, target: Tensor) -> Tensor:
        return 0.5 * ((self.vector - target) ** 2).sum()


class Killed(Exception):
    """What ends the thread of a member that is killed."""


class Fleet:
    """Starts members, kills them, and collects what they return."""

    def __init__(self, folder: Path, world_size: int, **options: Any) -> None:
        self.world_size = world_size
        self.groups: dict[int, ElasticGroup] = {}
        self.changes: list[tuple[int, Change]] = []
        self._path = str(folder / "store")
        self._options = {"patience_s": 1.0, **options}
        self.finish = threading.Event()
        self._pool = ThreadPoolExecutor(32)
        self._dead: set[ElasticGroup] = set()

    def start(self, rank: int, work: Callable[[ElasticGroup], Any]) -> Future[Any]:
        """Start a member of ``rank`` that does ``work``; its future ends with the result, or None if it was killed."""
        return self._pool.submit(self._run, rank, work)

    def start_all(self, work: Callable[[ElasticGroup], Any]) -> list[Future[Any]]:
        """Start a member of every rank."""
        return [self.start(rank, work) for rank in range(self.world_size)]

    def kill(self, rank: int) -> None:
        """Kill the member of ``rank``: it says nothing more, and its thread ends at its next step."""
        group = self.groups.pop(rank)
        self._dead.add(group)
        group.drop()

    def goes_on(self, group: ElasticGroup) -> bool:
        """Called by a member between two steps: whether the test has not finished; the same on all members."""
        if group in self._dead:
            raise Killed
        said = group.gather([self.finish.is_set()])
        alone = len(said) == 1  # it begins with this step, and was not there when the others looked
        return alone or not any(finish for [finish] in said.values())

    def wait_for(self, step: int, members: int) -> None:
        """Wait until so many members are there and all have taken ``step`` steps."""
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            groups = list(self.groups.values())
            if len(groups) == members and all(group.step >= step for group in groups):
                return
            time.sleep(0.005)
        raise AssertionError(f"not at step {step}: {[(group.me, group.step) for group in self.groups.values()]}")

    @property
    def step(self) -> int:
        """How far the furthest member is."""
        return max(group.step for group in self.groups.values())

    def _run(self, rank: int, work: Callable[[ElasticGroup], Any]) -> Any:
        store = dist.FileStore(self._path, -1)
        group = ElasticGroup(
            store, rank, self.world_size, on_change=lambda change: self.changes.append((rank, change)), **self._options
        )
        self.groups[rank] = group
        try:
            result = work(group)
            group.close()
            return result
        except (Killed, PeerLost):
            if group not in self._dead:
                raise
            return None
        finally:
            group.drop()  # if it has not parted properly, it has died

    def close(self) -> None:
        """End what still runs."""
        for group in self.groups.values():
            group.drop()
        self._pool.shutdown(wait=False, cancel_futures=True)


def gossip_of(group: ElasticGroup, model: Model, *, lr: float, order: str = "atc", topology: Any = None) -> Any:
    """A Gossip with plain SGD."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    algorithm = sgp_core.build_algorithm("sgp", order=order)
    return sgp_core.Gossip(
        model, optimizer, algorithm=algorithm, topology=topology or "one_peer_exponential", elastic=group
    )
