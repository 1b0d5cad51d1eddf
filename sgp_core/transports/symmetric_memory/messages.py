"""Vectors on their way from one GPU's memory to another's."""

from __future__ import annotations

from sgp_core.distributed.exchange import Exchange
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.mixing import difference_, difference_scale, mix_all_, weighted_sum
from sgp_core.timeline import Marks, now
from sgp_core.transports.base import MessageContent
from sgp_core.transports.symmetric_memory.inbox import PeerInbox
from sgp_core.transports.symmetric_memory.peer_memory import PeerMemory, StreamEvent
from sgp_core.transports.symmetric_memory.weight_exchange import WeightExchange


class ArrivingWeights:
    """The PushSum weights that travel with one exchange, if any do: the host waits for them once.

    Args:
        weights: sends and receives them.
        exchange: of the step.
        number: of the exchange, from :meth:`WeightExchange.send`; None without weights.
    """

    def __init__(self, weights: WeightExchange, exchange: Exchange, number: int | None) -> None:
        self._weights = weights
        self._exchange = exchange
        self._number = number
        self._arrived: list[float] | None = None

    def wait(self) -> list[float]:
        """Return the weights of the in-peers; zeros if none travelled.

        Raises:
            PeerLost: an in-peer is gone.
        """
        if self._arrived is None and self._number is not None:
            self._arrived = self._weights.receive(self._exchange, self._number)
        return self._arrived or [0.0] * len(self._exchange.in_peers)


class SymmetricMessage:
    """The vectors, or a part of each, that the in-peers write to an inbox of this worker.

    Args:
        inbox: where they arrive.
        exchange: of the step.
        weights: travel with the first part.
        x: this worker's own vector, or the part of it.
    """

    def __init__(self, inbox: PeerInbox, exchange: Exchange, weights: ArrivingWeights, x: FlatVector) -> None:
        self._inbox = inbox
        self._exchange = exchange
        self._weights = weights
        self._part = x
        self._arrived: list[FlatVector] | None = None

    def add_to(self, x: FlatVector, marks: Marks | None = None) -> float:
        for mine, *theirs in zip(x.tensors, *(vector.tensors for vector in self._receive()), strict=True):
            mix_all_(mine, 1.0, theirs, self._exchange.in_weights)
        if self._part.last:
            self._inbox.release()
        return weighted_sum(self._exchange.in_weights, self._weights.wait())

    def content(self) -> MessageContent:
        vectors = self._receive()
        return [
            ([tensor.clone() for tensor in vector.tensors], weight)
            for vector, weight in zip(vectors, self._weights.wait(), strict=True)
        ]

    def discard(self) -> None:
        """Let the message arrive, and release the inbox."""
        self._receive()
        if self._part.last:
            self._inbox.release()

    def _receive(self) -> list[FlatVector]:
        """Return the in-peers' vectors, or this part of them."""
        if self._arrived is None:
            self._arrived = [vector.at(self._part) for vector in self._inbox.receive(self._exchange)]
            self._weights.wait()  # or their memory would never be free
        return self._arrived


class SymmetricCombination:
    """Vectors that the side stream copies from where they lie to the inboxes of the out-peers.

    The main stream waits for the copies, and for those of the in-peers, before it combines. What is kept apart lies
    where the vector of the first in-peer has arrived, so no other memory is needed.

    Args:
        fabric: the streams.
        inbox: where the vectors of the in-peers arrive, with a slot for each.
        exchange: of the step.
        weights: travel with the vectors.
        sent: reached when this worker's vector has been copied to all out-peers.
    """

    def __init__(
        self, fabric: PeerMemory, inbox: PeerInbox, exchange: Exchange, weights: ArrivingWeights, sent: StreamEvent
    ) -> None:
        self._fabric = fabric
        self._inbox = inbox
        self._exchange = exchange
        self._weights = weights
        self._sent = sent
        self._scale = 0.0
        self._holds = True  # the inbox

    def combine(self, x: FlatVector, weight: float | None, *, apart: bool, marks: Marks | None = None) -> float:
        begin = now()
        arrived = self._weights.wait()  # first: the host notices that a peer is gone, a GPU only gives up in the end
        if marks is not None:
            marks.waited += now() - begin
        own, shares = self._exchange.shares(weight, arrived)
        vectors = self._settle()
        kept = self._inbox.first
        for into, mine, *theirs in zip(kept.tensors, x.tensors, *(v.tensors for v in vectors), strict=True):
            if apart:
                difference_(into, mine, own, theirs, shares)
            else:
                mix_all_(mine, own, theirs, shares)
        self._scale = difference_scale(own, shares) if apart else 0.0
        if not apart:
            self._inbox.release()
            self._holds = False
        return weighted_sum(self._exchange.in_weights, arrived)

    def complete(self, x: FlatVector) -> None:
        if self._scale:
            x.add_(self._inbox.first, self._scale)
        if self._holds:
            self._inbox.release()

    def settle(self) -> None:
        """Let the main stream wait until the vectors have arrived and left: what it does to them comes after that."""
        self._weights.wait()
        self._settle()

    def release(self) -> None:
        """Let peers write to the inbox again."""
        self._inbox.release()

    def _settle(self) -> list[FlatVector]:
        self._fabric.wait_event(self._sent)
        return self._inbox.receive(self._exchange)
