"""Who computes what where workers mix in place: the graph of one step as an order of small stretches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from sgp_core.tensors.mixing import GRAIN
from sgp_core.topology.base import Edges


class MixingStep(NamedTuple):
    """How one member's new values follow from old ones.

    Places 0 to m-1 are the members' vectors, then come those of the senders from elsewhere, then buffers.
    """

    place: int
    """Whose values are replaced."""
    keep: int | None
    """Where its old values are copied to first, None if nobody needs them any more."""
    own: float
    """The share of its own values that it keeps."""
    sources: tuple[int, ...]
    """Where the old values of its in-peers are by now."""
    shares: tuple[float, ...]
    """What it takes of each."""


@dataclass(frozen=True)
class MixingComponent:
    """Workers joined by edges of one step, ascending, and the order in which a stretch of their vectors is mixed.

    ``senders`` are the in-peers that are not members, ascending: workers of other hosts.
    """

    members: tuple[int, ...]
    senders: tuple[int, ...]
    turns: tuple[MixingStep, ...]
    buffers: int

    def stretch(self, rank: int, size: int) -> tuple[int, int]:
        """Return where the part of a vector begins and ends that ``rank`` computes for all members."""
        grains = -(-size // GRAIN)
        part = -(-grains // len(self.members)) * GRAIN
        begin = min(size, self.members.index(rank) * part)
        return begin, min(size, begin + part)


@lru_cache(maxsize=256)
def component_of(edges: Edges, rank: int, host: tuple[int, ...] | None = None) -> MixingComponent:
    """Return the component that ``rank`` is in, by the edges inside ``host`` if there is one, else by all.

    Members are ordered so that few old values have to be copied.
    """
    members = connected_workers(edges, rank, host)
    senders = senders_to(edges, members)
    waiting, turns = list(members), []
    place = {worker: number for number, worker in enumerate((*members, *senders))}
    free: list[int] = []
    first = end = len(place)
    while waiting:
        member = next((m for m in waiting if not _needed(m, waiting, edges)), waiting[0])
        waiting.remove(member)
        target, keep = place[member], None
        if any(member in edges.in_peers[other] for other in waiting):
            keep = free.pop() if free else end
            end = max(end, keep + 1)
            place[member] = keep
        sources = tuple(place[peer] for peer in edges.in_peers[member])
        turns.append(MixingStep(target, keep, edges.own_weight[member], sources, edges.in_weights[member]))
        for old in [m for m, at in place.items() if at >= first]:
            if not any(old in edges.in_peers[other] for other in waiting):
                free.append(place.pop(old))
    return MixingComponent(members, senders, tuple(turns), end - first)


def connected_workers(edges: Edges, rank: int, host: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the workers, ascending, that edges inside ``host`` join with ``rank``."""
    found, reached = {rank}, [rank]
    while reached:
        worker = reached.pop()
        new = {*edges.in_peers[worker], *edges.out_peers[worker]} - found
        if host is not None:
            new.intersection_update(host)
        found |= new
        reached += new
    return tuple(sorted(found))


def senders_to(edges: Edges, members: tuple[int, ...]) -> tuple[int, ...]:
    """Return the in-peers of ``members`` that are none of them, ascending."""
    return tuple(sorted({peer for member in members for peer in edges.in_peers[member]}.difference(members)))


def _needed(member: int, waiting: list[int], edges: Edges) -> bool:
    return any(member in edges.in_peers[other] for other in waiting if other != member)
