"""What a transport is: the way vectors travel between workers, below any rule and any runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from sgp_core.distributed.exchange import Exchange
from sgp_core.tensors.flat_vector import FlatVector, Tensor
from sgp_core.tensors.mixing import mix_all_, weighted_sum
from sgp_core.timeline import Marks

MessageContent = list[tuple[list[Tensor], float]]
"""What has arrived of one message slot after another: the pieces of the sender's vector, and its PushSum weight."""


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
    """A vector under way from every in-peer of one step."""

    def add_to(self, x: FlatVector, marks: Marks | None = None) -> float:
        """Wait, add ``sum_j P_ij x_j`` to ``x``, give the memory back; return ``sum_j P_ij w_j``. Once only."""

    def content(self) -> MessageContent:
        """Wait and return copies of what the in-peers have sent, in the order of ``in_peers``."""

    def discard(self) -> None:
        """Give it up, in place of ``add_to``."""


class PostedMix(Protocol):
    """A vector that leaves as it lies, while those of the in-peers arrive."""

    def mix_into(self, x: FlatVector, marks: Marks | None = None) -> float:
        """Wait, replace ``x`` by ``own x + sum_j P_ij x_j``, return ``sum_j P_ij w_j`` (0 without weights). Once."""


class Transport(Protocol):
    """Carries vectors of one layout between the workers of one group."""

    name: str
    marks: Marks | None
    """Where to note the moments of the exchange that begins; None: nowhere."""

    def mix(self, x: FlatVector, exchange: Exchange, weight: float | None) -> float:
        """Replace ``x`` by ``own x + sum_j share_j x_j`` in place; return the weight mixed alike (1 if None)."""

    def post(self, x: FlatVector, exchange: Exchange, weight: float | None) -> PostedMix | None:
        """Begin to mix ``x``, a part of the vector; return None where nothing travels: ``mix`` is then to do it all.

        The weight, if any, goes with the first part.
        """

    def push(self, x: FlatVector, exchange: Exchange, weight: float | None) -> Message:
        """Begin to send ``x``, which may be changed at once, to the out-peers and to receive from the in-peers.

        ``x`` is the vector or, in turn, each part of it; the weight goes with the first, None with the others. Messages
        of parts are taken, or discarded, in the order in which they were pushed.
        """

    def scratch(self) -> FlatVector:
        """Return memory laid out like the model that is free until the next ``mix`` or ``push``."""

    def settle(self) -> None:
        """Return once everything this worker has sent has left."""


class ReceivedMessage:
    """A message whose content is known: one that a checkpoint has kept."""

    def __init__(self, content: MessageContent, exchange: Exchange) -> None:
        self._content = content
        self._exchange = exchange

    def add_to(self, x: FlatVector, marks: Marks | None = None) -> float:
        for number, mine in enumerate(x.tensors):
            received = [
                pieces[number].to(mine.device) for pieces, _ in self._content
            ]  # a checkpoint is read to the CPU
            mix_all_(mine, 1.0, received, self._exchange.in_weights)
        return weighted_sum(self._exchange.in_weights, [weight for _, weight in self._content])

    def discard(self) -> None:
        """Nobody waits for it."""

    def content(self) -> MessageContent:
        return [([piece.clone() for piece in pieces], weight) for pieces, weight in self._content]
