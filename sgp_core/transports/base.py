"""The interface of a transport, which carries vectors between workers, below any rule and any runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from sgp_core.distributed.exchange import Exchange
from sgp_core.tensors.flat_vector import FlatVector, Tensor
from sgp_core.tensors.mixing import mix_all_, weighted_sum
from sgp_core.timeline import Marks

MessageContent = list[tuple[list[Tensor], float]]
"""The content of a message, for each in-peer in turn: the pieces of its vector, and its PushSum weight."""


def concatenate(parts: Sequence[MessageContent]) -> MessageContent:
    """Return the content of one message, given those of its parts in order."""
    if len(parts) == 1:
        return parts[0]
    of_peers = zip(*parts, strict=True)
    return [
        ([torch.cat(pieces) for pieces in zip(*(pieces for pieces, _ in peer), strict=True)], peer[0][1])
        for peer in of_peers
    ]


class Message(Protocol):
    """The vectors that all in-peers of one step have pushed, or the same part of each."""

    def add_to(self, x: FlatVector, marks: Marks | None = None) -> float:
        """Wait, add ``sum_j P_ij x_j`` to ``x`` and release the memory; return ``sum_j P_ij w_j``, 0 without weights.

        Call it once.

        Raises:
            PeerLost: an in-peer is gone.
        """

    def content(self) -> MessageContent:
        """Wait, and return copies of what the in-peers have sent, in the order of ``in_peers``."""

    def discard(self) -> None:
        """Release the memory without adding the message. Call it in place of ``add_to``."""


class PostedMix(Protocol):
    """A vector that is being sent from where it lies, while those of the in-peers arrive."""

    def mix_into(self, x: FlatVector, marks: Marks | None = None) -> float:
        """Wait, and replace ``x`` by ``P_ii x + sum_j P_ij x_j``; return ``sum_j P_ij w_j``, 0 without weights.

        Call it once.

        Raises:
            PeerLost: a peer is gone.
        """


class Combination(Protocol):
    """The vectors of one step on their way, from where they lie: to be combined before the optimizer steps."""

    def combine(self, x: FlatVector, weight: float | None, *, apart: bool, marks: Marks | None = None) -> float:
        """Wait, and replace ``x``, which was posted, by ``P_ii w_i x + sum_j P_ij w_j x_j``; weights are 1 if None.

        With ``apart`` leave ``x`` as it is and keep the difference. Call it once, then :meth:`complete`.

        Returns:
            ``sum_j P_ij w_j``, 0 without weights.

        Raises:
            PeerLost: a peer is gone.
        """

    def complete(self, x: FlatVector) -> None:
        """Add what was kept apart to ``x``, and release the memory."""

    def settle(self) -> None:
        """Wait until the vectors have arrived and left: the vector that was posted may change from then on."""

    def release(self) -> None:
        """Give the vectors up, once they are settled, and release the memory. Call it in place of ``combine``."""


class Transport(Protocol):
    """Carries vectors of one layout between the workers of one process group. Stable extension point."""

    name: str
    marks: Marks | None
    """Records the times of the next exchange, unless None."""

    def mix(self, x: FlatVector, exchange: Exchange, weight: float | None) -> float:
        """Replace ``x`` by ``P_ii x + sum_j P_ij x_j`` in place; return the weight mixed in the same way (1 if None).

        Raises:
            PeerLost: a peer is gone.
        """

    def post(self, x: FlatVector, exchange: Exchange, weight: float | None) -> PostedMix | None:
        """Begin to mix ``x``, a part of the vector, which must not change until then.

        The weight, if any, travels with the first part.

        Returns:
            What completes the mix of this part; None from a transport that sends nothing early, which leaves all of
            it to ``mix``.
        """

    def post_ahead(self, x: FlatVector, exchange: Exchange, weight: float | None) -> Combination:
        """Begin to send ``x``, the parameters' own memory, which must not change until it is combined.

        Wait for no other worker. A transport of a user's own may leave this method out: nothing then travels ahead, see
        :class:`MixedCombination`.
        """

    def push(self, x: FlatVector, exchange: Exchange, weight: float | None) -> Message:
        """Begin to send ``x``, which may change at once, to the out-peers, and to receive from the in-peers.

        ``x`` is the vector or, in turn, each part of it; the weight travels with the first part, None with the others.
        Messages of parts are added, or discarded, in the order in which they were pushed.

        Raises:
            PeerLost: a peer that should have received an earlier message is gone.
            RuntimeError: more messages are in flight than the transport was made for.
        """

    def scratch(self) -> FlatVector:
        """Return memory of the model's layout that is free until the next exchange begins.

        It is the same until then, but while a vector is under way that was posted ahead.
        """

    def settle(self) -> None:
        """Return once everything this worker has sent has left."""


class MixedCombination:
    """A combination by way of :meth:`Transport.mix`, for transports of users' own that have no ``post_ahead``.

    Nothing travels ahead. The results are those of the other transports but for rounding, since vectors are multiplied
    by PushSum weights before they are sent. What is kept apart takes a vector's memory in each step.

    Args:
        transport: mixes when the vector is combined.
        exchange: of the step.
    """

    def __init__(self, transport: Transport, exchange: Exchange) -> None:
        self._transport = transport
        self._exchange = exchange
        self._apart: FlatVector | None = None

    def combine(self, x: FlatVector, weight: float | None, *, apart: bool, marks: Marks | None = None) -> float:
        mixed = x.clone() if apart else x  # not in scratch(), where vectors may arrive
        if weight is not None:
            mixed.mul_(weight)
        self._transport.marks = marks
        arrived = self._transport.mix(mixed, self._exchange, weight)
        if apart:
            self._apart = mixed.add_(x, -1.0)
        return 0.0 if weight is None else arrived - self._exchange.own_weight * weight

    def complete(self, x: FlatVector) -> None:
        if self._apart is not None:
            x.add_(self._apart)
            self._apart = None

    def settle(self) -> None:
        """Do nothing: nothing was sent."""

    def release(self) -> None:
        """Do nothing."""


class ReceivedMessage:
    """A message that has arrived: one that was loaded from a checkpoint."""

    def __init__(self, content: MessageContent, exchange: Exchange) -> None:
        self._content = content
        self._exchange = exchange

    def add_to(self, x: FlatVector, marks: Marks | None = None) -> float:
        for number, mine in enumerate(x.tensors):
            # A checkpoint is read to the CPU.
            received = [pieces[number].to(mine.device) for pieces, _ in self._content]
            mix_all_(mine, 1.0, received, self._exchange.in_weights)
        return weighted_sum(self._exchange.in_weights, [weight for _, weight in self._content])

    def discard(self) -> None:
        """Do nothing: there is no memory to release."""

    def content(self) -> MessageContent:
        return [([piece.clone() for piece in pieces], weight) for pieces, weight in self._content]
