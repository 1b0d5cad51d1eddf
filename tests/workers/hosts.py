"""What real workers do in test_hierarchical.py: those of one process group, which pretend to be on several hosts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from sgp_core.algorithms import Algorithm
from sgp_core.distributed import host_memory
from sgp_core.topology import Topology
from sgp_core.transports.hierarchical import plan
from sgp_core.transports.p2p import buffers
from tests.support.hosts import on_hosts
from tests.workers import shared_memory
from tests.workers.agreement import train_here


@contextmanager
def small_chunks() -> Iterator[None]:
    """Let even small vectors be many chunks, more than a worker has room for."""
    where = [
        (plan, "_CHUNK_BYTES", 1 << 12),
        (plan, "_LEAST_BYTES", 1 << 9),
        (plan, "_WORTH_SHARING_BYTES", 1 << 8),
        (buffers, "_CHUNK_BYTES", 1 << 12),
    ]
    kept = [getattr(module, name) for module, name, _ in where]
    for module, name, small in where:
        setattr(module, name, small)
    yield
    for (module, name, _), value in zip(where, kept, strict=True):
        setattr(module, name, value)
    plan.split_into_chunks.cache_clear()


def _trained(cases: list[tuple[Algorithm, Topology]], steps: int) -> list[str]:
    """Train every case by messages and as ``auto`` chooses; return which differ."""
    differ = []
    for algorithm, topology in cases:
        one, other = (train_here(algorithm, topology, "sgd", steps, transport=way) for way in ("p2p", "auto"))
        assert (one["transport"], other["transport"]) == ("p2p", "hierarchical")
        if not all(torch.equal(one[what], other[what]) for what in ("z", "w")):
            differ.append(f"{algorithm} {topology}")
        assert one["sent"] == other["sent"]
    return differ


def _strangers() -> str:
    """Return what is chosen where worker 1 cannot be reached by the others of its host."""
    create = host_memory._create
    if dist.get_rank() == 1:
        host_memory._create = lambda size: (*(made := create(size))[:1], made[1]._replace(token=b"other"))
    said = shared_memory.chosen("auto")
    host_memory._create = create
    return said


def beside_each_other(
    hosts: str,
    layouts: list[dict[torch.dtype, int]],
    graphs: list[Topology],
    cases: list[tuple[Algorithm, Topology]],
    steps: int,
) -> dict[str, Any]:
    """Do in one group of workers what kills none of them."""
    with on_hosts(hosts):
        with small_chunks():
            bits = shared_memory.differences_of_bits(layouts, graphs, "hierarchical")
        choices = {
            wanted: shared_memory.chosen(wanted) for wanted in ("auto", "hierarchical", "mixed", "shared_memory", "p2p")
        }
        return {"bits": bits, "trained": _trained(cases, steps), "choices": choices, "strangers": _strangers()}


def killed(hosts: str, victim: int, overlap_steps: int) -> dict[str, Any]:
    """Let ``victim`` be killed after three steps; return what the others say, and when."""
    with on_hosts(hosts):
        return shared_memory.killed(victim, overlap_steps)
