"""The messages between hosts for one step's graph: which vectors, in which chunks, from whom and to whom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from sgp_core.distributed.host_memory import Hosts
from sgp_core.tensors.mixing import GRAIN
from sgp_core.topology.base import Edges
from sgp_core.transports.shared_memory.mixing_plan import MixingComponent, component_of, connected_workers, senders_to

_CHUNK_BYTES = 4 << 20
"""Bytes of one chunk, from all senders together: mixing it overlaps with the transfer of the next."""
_LEAST_BYTES = 512 << 10
"""The least bytes of a chunk, however many senders there are: a message has a cost of its own."""
_WORTH_SHARING_BYTES = 64 << 10
"""The least bytes of a chunk that is made smaller so that all members of a component get equally many chunks."""


class PlanChunk(NamedTuple):
    """A range of one piece of the vectors. The members of a component take turns to compute the chunks for all."""

    number: int
    piece: int
    begin: int
    end: int


class OutgoingVector(NamedTuple):
    """A vector of this worker's component that a component of another host needs."""

    place: int
    """The place of its owner among the members of this worker's component."""
    receivers: tuple[int, ...]
    """The members of that component, who receive its chunks in turn."""


@dataclass(frozen=True)
class InterHostPlan:
    """What the component of a worker exchanges with other hosts; the same for all its members.

    Attributes:
        component: the workers of its host that it mixes with, and the remote senders.
        incoming: for each remote sender, the members of its component, who send its chunks in turn.
        outgoing: the vectors that other hosts need.
        max_senders: the largest number of senders that any component has: all workers cut vectors by it, alike.
    """

    component: MixingComponent
    incoming: tuple[tuple[int, ...], ...]
    outgoing: tuple[OutgoingVector, ...]
    max_senders: int


@lru_cache(maxsize=256)
def plan_of(edges: Edges, rank: int, hosts: Hosts) -> InterHostPlan:
    """Return the plan of ``rank``. A vector is sent to a component once, however many of its members need it."""
    components: dict[int, tuple[int, ...]] = {}
    for host in hosts:
        for worker in host:
            if worker not in components:
                members = connected_workers(edges, worker, host)
                components |= dict.fromkeys(members, members)
    own = component_of(edges, rank, next(host for host in hosts if rank in host))
    outgoing, max_senders = [], len(own.senders)
    for members in sorted(set(components.values()) - {own.members}):
        senders = senders_to(edges, members)
        max_senders = max(max_senders, len(senders))
        outgoing += [OutgoingVector(own.members.index(sender), members) for sender in senders if sender in own.members]
    return InterHostPlan(own, tuple(components[sender] for sender in own.senders), tuple(outgoing), max_senders)


@lru_cache(maxsize=256)
def split_into_chunks(sizes: tuple[tuple[int, int], ...], senders: int, hosts: Hosts) -> tuple[PlanChunk, ...]:
    """Cut vectors into chunks, on all workers alike.

    Unless the chunks would be small, their number is a multiple of the workers of each host, so that all have equally
    much to do.

    Args:
        sizes: for each piece, the number of its elements and the bytes of one.
        senders: the largest number of senders to one component.
        hosts: all workers by host.
    """
    chunks: list[PlanChunk] = []
    parts = math.lcm(*map(len, hosts))
    for piece, (size, itemsize) in enumerate(sizes):
        nbytes = max(_LEAST_BYTES, _CHUNK_BYTES // max(1, senders))
        count = max(1, _round_up(size * itemsize, nbytes) // nbytes)
        elements = -(-size // _round_up(count, parts))
        elements = _round_up(max(elements, _WORTH_SHARING_BYTES // itemsize), GRAIN)
        for begin in range(0, size, elements):
            chunks.append(PlanChunk(len(chunks), piece, begin, min(size, begin + elements)))
    return tuple(chunks)


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step
