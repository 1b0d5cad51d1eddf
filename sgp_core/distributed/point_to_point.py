"""Batches of point-to-point messages on one process group, and waiting for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sgp_core.distributed.exchange import Exchange
from sgp_core.timeline import Marks, now

AT_ONCE_NS = 100_000
"""A wait that takes no longer found its message there already."""


class PointToPoint:
    """Sends to and receives from the workers of one group, by their rank in it.

    Args:
        group: the process group, None for the default one.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self._group = group
        self.rank, self.world_size = dist.get_rank(group), dist.get_world_size(group)
        self._global_rank = [r if group is None else dist.get_global_rank(group, r) for r in range(self.world_size)]

    def receive(self, into: Tensor, peer: int) -> dist.P2POp:
        """Return a receive that :meth:`post` starts."""
        return dist.P2POp(dist.irecv, into, self._global_rank[peer], self._group)

    def send(self, what: Tensor, peer: int) -> dist.P2POp:
        """Return a send that :meth:`post` starts; ``what`` must stay as it is until it has been waited for."""
        return dist.P2POp(dist.isend, what, self._global_rank[peer], self._group)

    def post(self, receives: list[dist.P2POp], sends: list[dist.P2POp]) -> tuple[list[Any], list[Any]]:
        """Start them, receives first, since gloo serialises the two directions of a pair otherwise.

        Returns:
            What to wait for: one each, or one and the same for all from a backend that makes them one operation (NCCL).
        """
        posted = [*receives, *sends]
        works = list(dist.batch_isend_irecv(posted)) if posted else []
        if len(works) != len(posted):
            return works, works
        return works[: len(receives)], works[len(receives) :]

    def send_and_receive(
        self, sends: Iterable[tuple[Tensor, int]], receives: Iterable[tuple[Tensor, int]], exchange: Exchange
    ) -> None:
        """Send tensors to peers, receive tensors from peers, and wait for all of it.

        Args:
            sends: tensors, each with the peer to send it to.
            receives: tensors to write to, each with the peer to receive from.
            exchange: describes what fails if a peer is missed.

        Raises:
            PeerLost: a peer is gone or does not answer in time.
        """
        sends, receives = list(sends), list(receives)
        arrivals, departures = self.post([self.receive(*r) for r in receives], [self.send(*s) for s in sends])
        if arrivals is departures:
            wait(arrivals, exchange)
        else:
            wait(arrivals, exchange, [peer for _, peer in receives])
            wait(departures, exchange, [peer for _, peer in sends])


class WeightMessages:
    """The PushSum weights of one step, a message each.

    Args:
        wire: carries them.
        device: on which vectors, too, travel.
    """

    def __init__(self, wire: PointToPoint, device: torch.device) -> None:
        self._wire = wire
        self._out = torch.zeros(1, dtype=torch.float64, device=device)
        self._in = torch.zeros(wire.world_size, 1, dtype=torch.float64, device=device)
        self._works: list[Any] = []
        self._peers: tuple[int, ...] = ()
        self._exchange: Exchange | None = None

    def post(self, weight: float, exchange: Exchange) -> None:
        """Begin to send this worker's to the out-peers and to receive those of the in-peers."""
        self._out.fill_(weight)
        receives = [self._wire.receive(self._in[slot], peer) for slot, peer in enumerate(exchange.in_peers)]
        arrivals, departures = self._wire.post(receives, [self._wire.send(self._out, p) for p in exchange.out_peers])
        self._works, self._exchange = [*arrivals, *departures], exchange
        self._peers = () if arrivals is departures else (*exchange.in_peers, *exchange.out_peers)

    def arrived(self) -> list[float]:
        """Wait until all have come and gone; return those of the in-peers.

        Raises:
            RuntimeError: a peer is gone; the message names the step and the peers.
        """
        assert self._exchange is not None, "nothing was posted"
        exchange, self._exchange = self._exchange, None
        wait(self._works, exchange, self._peers)
        return [float(self._in[slot]) for slot in range(len(exchange.in_peers))]


def wait(works: Iterable[Any], exchange: Exchange, peers: Sequence[int] = (), marks: Marks | None = None) -> None:
    """Wait for works.

    Args:
        works: what :meth:`PointToPoint.post` has returned.
        exchange: what is lost if one fails.
        peers: whose they are, in turn, where that is known.
        marks: where to note when what was received from each peer had come, and how long it was waited for.

    Raises:
        RuntimeError: a peer is gone; the message names the step and the peers.
    """
    begin = 0 if marks is None else now()
    for slot, work in enumerate(works):
        looked = 0 if marks is None else now()
        try:
            work.wait()
        except RuntimeError as error:
            missing = [peers[slot % len(peers)]] if peers else []
            raise exchange.lost(f"rank {missing[0]}: {error}" if missing else error, missing) from error
        if marks is not None:
            marks.arrived[peers[slot]] = seen = now()
            if seen - looked > AT_ONCE_NS:
                marks.hidden.discard(peers[slot])
    if marks is not None:
        marks.waited += now() - begin
