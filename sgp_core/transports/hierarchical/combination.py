"""Vectors that are combined where they lie inside a host, and that were sent ahead between hosts."""

from __future__ import annotations

from sgp_core.distributed.exchange import Exchange
from sgp_core.tensors.flat_vector import FlatVector, Tensor
from sgp_core.tensors.mixing import difference_scale, weighted_sum
from sgp_core.timeline import Marks
from sgp_core.transports.p2p.buffers import chunks_of
from sgp_core.transports.p2p.pending_message import PendingMessage
from sgp_core.transports.shared_memory.mixing_plan import MixingComponent
from sgp_core.transports.shared_memory.transport import SharedCombination, SharedMemoryTransport


class HierarchicalCombination:
    """The vectors of one step: those of other hosts are under way to this worker, those of its host lie in memory.

    The workers of a component, which edges inside the host connect, wait for each other when they combine:

    - If nothing comes to the component from other hosts, its members combine where their vectors lie, each a part of
      the elements of all: one pass.
    - A worker that has no neighbour in its host combines in place as chunks arrive: one pass.
    - Otherwise each worker computes its own vector as chunks arrive, where one of them has arrived, since neighbours
      still read the old one; then they wait for each other again, and it copies the new one: two passes.

    What is kept apart is computed in the same ways, and takes no more memory but in the first case, a send buffer.

    Args:
        shared: the vectors of this host.
        exchange: the exchange with all peers.
        component: the workers of this host that mix together, and the remote senders.
        pending: the message to and from remote peers.
    """

    def __init__(
        self,
        shared: SharedMemoryTransport,
        exchange: Exchange,
        component: MixingComponent,
        pending: PendingMessage,
    ) -> None:
        self._shared = shared
        self._exchange = exchange
        self._component = component
        self._pending = pending
        self._in_memory = None if component.senders else SharedCombination(shared, exchange, component)
        self._alone = len(component.members) == 1
        self._scale = 0.0

    def combine(self, x: FlatVector, weight: float | None, *, apart: bool, marks: Marks | None = None) -> float:
        self._shared.marks = marks
        if self._in_memory is not None:
            self._pending.settle()  # neighbours may change what it was sent from
            return self._in_memory.combine(x, weight, apart=apart, marks=marks)
        exchange, members = self._exchange, self._component.members
        with self._shared.component_vectors(x, exchange, self._component, weight) as (vectors, weights):
            if self._alone:
                return self._pending.combine(x, weight, apart=apart, marks=marks)
            by_rank = dict(zip(members, vectors, strict=True))
            local = [by_rank[peer] for peer in exchange.in_peers if peer in by_rank]
            read = any(peer in by_rank for peer in exchange.out_peers)
            arrived = self._compute(x, local, weight, weights, apart=apart, in_place=not (apart or read), marks=marks)
        if read and not apart:
            for mine, new in zip(chunks_of(x), self._pending.memory, strict=True):
                mine.copy_(new)
        return arrived

    def _compute(
        self,
        x: FlatVector,
        local: list[FlatVector],
        weight: float | None,
        weights: dict[int, float],
        *,
        apart: bool,
        in_place: bool,
        marks: Marks | None,
    ) -> float:
        """Compute this worker's new vector, or the difference; return the sum of the weights that have arrived."""
        exchange, blocks = self._exchange, self._shared.blocks
        compute = blocks.difference_into if apart else blocks.mix_into
        arrived: list[float] = []
        own, shares = exchange.shares(None, ())
        chunks = zip(chunks_of(x), self._pending.memory, self._pending.chunks(marks), strict=True)
        neighbours = [chunks_of(vector) for vector in local]
        for at, (mine, kept, slots) in enumerate(chunks):
            if at == 0:  # PushSum weights have arrived with it
                near = [weights[peer] for peer in exchange.in_peers if peer in weights]
                arrived = exchange.merge(weights, near, self._pending.weights)
                own, shares = exchange.shares(weight, arrived)
            received: list[Tensor] = exchange.merge(weights, [theirs[at] for theirs in neighbours], slots)
            compute(mine if in_place else kept, mine, own, received, shares)
        self._scale = difference_scale(own, shares) if apart else 0.0
        return 0.0 if weight is None else weighted_sum(exchange.in_weights, arrived)

    def complete(self, x: FlatVector) -> None:
        if self._in_memory is not None:
            self._in_memory.complete(x)
        elif self._alone:
            self._pending.complete(x)
            return
        elif self._scale:
            for mine, kept in zip(chunks_of(x), self._pending.memory, strict=True):
                mine.add_(kept, alpha=self._scale)
        self._pending.release()

    def settle(self) -> None:
        """Wait until what travels between hosts has arrived and left."""
        self._pending.settle()

    def release(self) -> None:
        """Release the receive buffer."""
        self._pending.release()
