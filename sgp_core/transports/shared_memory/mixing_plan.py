"""In which order workers that share memory mix in place, so that few old values have to be copied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from sgp_core.tensors.mixing import GRAIN
from sgp_core.topology.base import Edges


class MixingStep(NamedTuple):
    """How to compute the new values of one member from old values.

    Places 0 to m-1 are the vectors of the members; those of the remote senders come next, then buffers.
    """

    place: int
    """The place of the values to replace."""
    keep: int | None
    """The place to copy its old values to first; None if no other member still needs them."""
    own_weight: float
    """The mixing weight of its own values."""
    sources: tuple[int, ...]
    """The places of the old values of its in-peers."""
    in_weights: tuple[float, ...]
    """The mixing weights of these."""


@dataclass(frozen=True)
class MixingComponent:
    """A connected component of one step's graph, and the order in which its vectors are mixed.

    Attributes:
        members: the ranks of its workers, ascending.
        senders: the remote senders: ranks of the in-peers that are no members, ascending.
        steps: the computation, in order.
        buffers: how many old values are kept at a time.
    """

    members: tuple[int, ...]
    senders: tuple[int, ...]
    steps: tuple[MixingStep, ...]
    buffers: int

    def range_of(self, rank: int, size: int) -> tuple[int, int]:
        """Return begin and end of the elements that ``rank`` computes for all members, of vectors of ``size``."""
        grains = -(-size // GRAIN)
        part = -(-grains // len(self.members)) * GRAIN
        begin = min(size, self.members.index(rank) * part)
        return begin, min(size, begin + part)

    def weighed(self, edges: Edges, weights: Mapping[int, float]) -> MixingComponent:
        """Return the computation for vectors of members that count ``weights`` times as much."""
        steps = []
        for step in self.steps:
            member = self.members[step.place]
            in_weights = [
                share * weights[peer] for share, peer in zip(step.in_weights, edges.in_peers[member], strict=True)
            ]
            own_weight = step.own_weight * weights[member]
            steps.append(step._replace(own_weight=own_weight, in_weights=tuple(in_weights)))
        return replace(self, steps=tuple(steps))


@lru_cache(maxsize=256)
def component_of(edges: Edges, rank: int, host: tuple[int, ...] | None = None) -> MixingComponent:
    """Return the component of ``rank`` in the graph of the edges inside ``host``, or of all edges."""
    members = connected_workers(edges, rank, host)
    senders = senders_to(edges, members)
    waiting, steps = list(members), []
    place = {worker: number for number, worker in enumerate((*members, *senders))}
    free: list[int] = []
    first = end = len(place)
    while waiting:
        member = next((m for m in waiting if not _is_needed(m, waiting, edges)), waiting[0])
        waiting.remove(member)
        target, keep = place[member], None
        if any(member in edges.in_peers[other] for other in waiting):
            keep = free.pop() if free else end
            end = max(end, keep + 1)
            place[member] = keep
        sources = tuple(place[peer] for peer in edges.in_peers[member])
        steps.append(MixingStep(target, keep, edges.own_weight[member], sources, edges.in_weights[member]))
        for old in [m for m, at in place.items() if at >= first]:
            if not any(old in edges.in_peers[other] for other in waiting):
                free.append(place.pop(old))
    return MixingComponent(members, senders, tuple(steps), end - first)


def connected_workers(edges: Edges, rank: int, host: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the workers, ascending, that edges inside ``host`` connect with ``rank``."""
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
    """Return the in-peers of ``members`` that are no members, ascending."""
    return tuple(sorted({peer for member in members for peer in edges.in_peers[member]}.difference(members)))


def _is_needed(member: int, waiting: list[int], edges: Edges) -> bool:
    return any(member in edges.in_peers[other] for other in waiting if other != member)
