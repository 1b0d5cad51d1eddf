"""What travels between the hosts of one step's graph: whose vectors, cut into chunks, from whom and to whom."""

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
"""Of what arrives of one chunk, from all senders together; so that mixing runs beside the transfer of the next."""
_LEAST_BYTES = 512 << 10
"""Of a chunk, however many senders there are: a message has a price of its own."""
_WORTH_SHARING_BYTES = 64 << 10
"""Of a chunk, so that each member of a component has as many: less is not worth another message."""


class PlanChunk(NamedTuple):
    """A stretch of one piece of the vectors. The member of a component whose turn it is computes it for all of them."""

    number: int
    piece: int
    begin: int
    end: int


class OutgoingVector(NamedTuple):
    """A vector of this worker's component, and who elsewhere needs it."""

    place: int
    """The member's."""
    takers: tuple[int, ...]
    """Who receives its chunks, in turn: the members of a component of another host."""


@dataclass(frozen=True)
class InterHostPlan:
    """What a worker's component has to do with other hosts, the same for all its members.

    Attributes:
        component: the workers of its host that it mixes with, and the senders from elsewhere.
        arriving: for each of these senders the members of its component: who sends its chunks, in turn.
        leaving: vectors that go to other hosts.
        most: the largest number of senders that any component has, so that all workers cut alike.
    """

    component: MixingComponent
    arriving: tuple[tuple[int, ...], ...]
    leaving: tuple[OutgoingVector, ...]
    most: int


@lru_cache(maxsize=256)
def plan_of(edges: Edges, rank: int, hosts: Hosts) -> InterHostPlan:
    """Read the routes of ``rank`` off the graph. A vector goes to a component once, however many members need it."""
    components: dict[int, tuple[int, ...]] = {}
    for host in hosts:
        for worker in host:
            if worker not in components:
                members = connected_workers(edges, worker, host)
                components |= dict.fromkeys(members, members)
    own = component_of(edges, rank, next(host for host in hosts if rank in host))
    leaving, most = [], len(own.senders)
    for members in sorted(set(components.values()) - {own.members}):
        senders = senders_to(edges, members)
        most = max(most, len(senders))
        leaving += [OutgoingVector(own.members.index(sender), members) for sender in senders if sender in own.members]
    return InterHostPlan(own, tuple(components[sender] for sender in own.senders), tuple(leaving), most)


@lru_cache(maxsize=256)
def split_into_chunks(sizes: tuple[tuple[int, int], ...], senders: int, hosts: Hosts) -> tuple[PlanChunk, ...]:
    """Cut vectors into chunks, on all workers alike.

    There are a multiple of every host's workers of them, so that all have as much to do, unless they would be small.

    Args:
        sizes: elements, and bytes of one, of each piece.
        senders: to one component, as in :class:`InterHostPlan`.
    """
    chunks: list[PlanChunk] = []
    parts = math.lcm(*map(len, hosts))
    for piece, (size, itemsize) in enumerate(sizes):
        wanted = max(_LEAST_BYTES, _CHUNK_BYTES // max(1, senders))
        count = max(1, _up(size * itemsize, wanted) // wanted)
        share = -(-size // _up(count, parts))
        elements = _up(max(share, _WORTH_SHARING_BYTES // itemsize), GRAIN)
        for begin in range(0, size, elements):
            chunks.append(PlanChunk(len(chunks), piece, begin, min(size, begin + elements)))
    return tuple(chunks)


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
