"""Vectors sent whole and received whole, a few steps later: Overlap SGP's messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from sgp_core.flat import Flat
from sgp_core.runtime.mixing import mix_all_
from sgp_core.runtime.transports.base import Content, Exchange
from sgp_core.runtime.transports.wire import Wire, wait, weighed
from sgp_core.timeline import Marks, now

CHUNK_BYTES = 4 << 20
"""Messages on CPU are cut to this size, so that mixing one chunk runs beside the transfer of the next."""


class Outbox:
    """A copy of a vector that is on its way.

    Args:
        flat: where the copy lies.
    """

    def __init__(self, flat: Flat) -> None:
        self.flat = flat
        self.weight = torch.zeros(1, dtype=torch.float64, device=flat.tensors[0].device)
        self.chunks = [chunk for tensor in flat.tensors for chunk in chunks(tensor)]
        self.works: Sequence[Any] = ()
        self.peers: tuple[int, ...] = ()
        self.exchange: Exchange | None = None

    def settle(self) -> None:
        """Wait until it has left.

        Raises:
            RuntimeError: a peer is gone; the message names the step and the peers.
        """
        if self.exchange is not None:
            wait(self.works, self.exchange, self.peers)
            self.works, self.exchange = (), None


class Letters:
    """Sends outboxes and keeps the memory in which those of others arrive.

    Args:
        like: a vector of the model's layout.
        wire: carries them.
    """

    def __init__(self, like: Flat, wire: Wire) -> None:
        self._like = like
        self._wire = wire
        self._inboxes: dict[int, list[_Inbox]] = {}

    def send(self, outbox: Outbox, exchange: Exchange, weight: float, most: int, marks: Marks | None) -> Letter:
        """Begin to send what lies in ``outbox`` to the out-peers and to receive from the in-peers.

        Args:
            most: in-peers to have room for; inboxes of equal room are used again.
        """
        wire = self._wire
        outbox.weight.fill_(weight)
        free = self._inboxes.setdefault(most, [])
        inbox = free.pop() if free else _Inbox(self._like, most)
        receives = [wire.receive(inbox.weights[slot], peer) for slot, peer in enumerate(exchange.in_peers)]
        sends = [wire.send(outbox.weight, peer) for peer in exchange.out_peers]
        for sent, slots in zip(outbox.chunks, inbox.chunks, strict=True):
            receives += [wire.receive(slot, peer) for slot, peer in zip(slots, exchange.in_peers, strict=False)]
            sends += [wire.send(sent, peer) for peer in exchange.out_peers]
        arrivals, outbox.works = wire.post(receives, sends)
        if marks is not None:
            marks.posted = now()
        outbox.exchange, outbox.peers = exchange, () if arrivals is outbox.works else exchange.out_peers
        return Letter(exchange, inbox, arrivals, free, marks)


class _Inbox:
    """Where the vectors of all in-peers of one step arrive."""

    def __init__(self, like: Flat, in_degree: int) -> None:
        self.flats = [like.zeros_like() for _ in range(in_degree)]
        self.weights = torch.zeros(max(1, in_degree), 1, dtype=torch.float64, device=like.tensors[0].device)
        per_peer = [[chunk for tensor in flat.tensors for chunk in chunks(tensor)] for flat in self.flats]
        self.chunks = list(zip(*per_peer, strict=True)) or [() for t in like.tensors for _ in chunks(t)]


class Letter:
    """What :meth:`Letters.send` has begun: a :class:`sgp_core.runtime.transports.Message`."""

    def __init__(
        self, exchange: Exchange, inbox: _Inbox, arrivals: Sequence[Any], free: list[_Inbox], marks: Marks | None
    ) -> None:
        self._exchange = exchange
        self._inbox = inbox
        self._arrivals = arrivals
        self._free = free
        self._posted = 0 if marks is None else marks.posted

    def add_to(self, x: Flat, marks: Marks | None = None) -> float:
        mine = (chunk for tensor in x.tensors for chunk in chunks(tensor))
        for chunk, slots in zip(mine, self.arriving(marks), strict=True):
            mix_all_(chunk, 1.0, slots, self._exchange.shares)
        weight = weighed(self._exchange, self.weights)
        self.done()
        return weight

    def arriving(self, marks: Marks | None = None) -> Iterator[Sequence[Tensor]]:
        """Wait for one chunk of the vectors after another; yield it, one of each in-peer and perhaps some beyond."""
        peers = self._exchange.in_peers
        if self._coalesced:
            wait(self._arrivals, self._exchange)
        arrivals = iter(() if self._coalesced else self._arrivals)
        if marks is not None:
            marks.posted = self._posted
            marks.hidden.update(peers)  # until one has to be waited for
        wait(islice(arrivals, len(peers)), self._exchange, peers)
        for slots in self._inbox.chunks:
            wait(islice(arrivals, len(peers)), self._exchange, peers, marks)
            yield slots

    @property
    def _coalesced(self) -> bool:
        """Whether one work stands for all messages."""
        return len(self._arrivals) != len(self._exchange.in_peers) * (len(self._inbox.chunks) + 1)

    @property
    def weights(self) -> list[float]:
        """Of the in-peers, once something has arrived."""
        return [float(self._inbox.weights[slot]) for slot in range(len(self._exchange.in_peers))]

    def done(self) -> None:
        """Give the memory back, once all has arrived and is not looked at any more."""
        self._free.append(self._inbox)

    def discard(self) -> None:
        """Leave it: what is still under way arrives in memory that nobody uses."""

    def content(self) -> Content:
        wait(self._arrivals, self._exchange, () if self._coalesced else self._exchange.in_peers)
        self._arrivals = ()
        flats = self._inbox.flats[: len(self._exchange.in_peers)]
        return [
            ([tensor.clone() for tensor in flat.tensors], weight)
            for flat, weight in zip(flats, self.weights, strict=True)
        ]


def chunks(tensor: Tensor) -> tuple[Tensor, ...]:
    """Cut a tensor as it travels: on CPU into chunks, on GPUs not at all."""
    size = tensor.numel() if tensor.is_cuda else max(1, CHUNK_BYTES // tensor.element_size())
    return tensor.split(max(1, size))
