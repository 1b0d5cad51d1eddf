"""Batched point-to-point messages in one process group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sgp_core.distributed.exchange import Exchange
from sgp_core.timeline import Marks, now

AT_ONCE_NS = 100_000
"""A message that is waited for no longer than this had arrived before."""


class PointToPoint:
    """Sends to and receives from the members of one process group, by their rank in it.

    Args:
        group: the process group, None for the default one.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self._group = group
        self.rank, self.world_size = dist.get_rank(group), dist.get_world_size(group)
        self._global_rank = [r if group is None else dist.get_global_rank(group, r) for r in range(self.world_size)]

    def receive(self, into: Tensor, peer: int) -> dist.P2POp:
        """Return a receive to be started by :meth:`post`."""
        return dist.P2POp(dist.irecv, into, self._global_rank[peer], self._group)

    def send(self, tensor: Tensor, peer: int) -> dist.P2POp:
        """Return a send to be started by :meth:`post`; the tensor must not change until the send is complete."""
        return dist.P2POp(dist.isend, tensor, self._global_rank[peer], self._group)

    def post(
        self, receives: list[dist.P2POp], sends: list[dist.P2POp], exchange: Exchange | None = None
    ) -> tuple[list[Any], list[Any]]:
        """Start receives and sends in one batch; receives first, since gloo serialises the directions of a pair else.

        Args:
            exchange: what fails if a peer is missed, where that is known.

        Returns:
            The works of the receives and those of the sends, one for each. A backend that fuses the batch (NCCL)
            returns a single work: both lists are then the same object and hold that.

        Raises:
            PeerLost: a peer is gone already, in a group on CPUs; a RuntimeError without ``exchange``.
        """
        batch = [*receives, *sends]
        if batch and batch[0].tensor.is_cuda:
            works = list(dist.batch_isend_irecv(batch))
        else:
            works = [self._start(operation, exchange) for operation in batch]
        if len(works) != len(batch):
            return works, works
        return works[: len(receives)], works[len(receives) :]

    def _start(self, operation: dist.P2POp, exchange: Exchange | None) -> Any:
        try:
            return operation.op(operation.tensor, operation.peer, operation.group)
        except RuntimeError as error:
            if exchange is None:
                raise
            peer = self._global_rank.index(operation.peer)
            raise exchange.lost(f"rank {peer}: {error}", [peer]) from error

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
        operations = [self.receive(*r) for r in receives], [self.send(*s) for s in sends]
        arrivals, departures = self.post(*operations, exchange)
        if arrivals is departures:
            wait(arrivals, exchange)
        else:
            wait(arrivals, exchange, [peer for _, peer in receives])
            wait(departures, exchange, [peer for _, peer in sends])


class WeightMessages:
    """Exchanges PushSum weights, one message each.

    Args:
        messages: sends and receives them.
        device: where the group's backend wants tensors to be.
    """

    def __init__(self, messages: PointToPoint, device: torch.device) -> None:
        self._messages = messages
        self._out = torch.zeros(1, dtype=torch.float64, device=device)
        self._in = torch.zeros(messages.world_size, 1, dtype=torch.float64, device=device)
        self._works: list[Any] = []
        self._peers: tuple[int, ...] = ()
        self._exchange: Exchange | None = None

    def post(self, weight: float, exchange: Exchange) -> None:
        """Begin to send this worker's weight to the out-peers, and to receive those of the in-peers."""
        self._out.fill_(weight)
        receives = [self._messages.receive(self._in[slot], peer) for slot, peer in enumerate(exchange.in_peers)]
        sends = [self._messages.send(self._out, peer) for peer in exchange.out_peers]
        arrivals, departures = self._messages.post(receives, sends, exchange)
        self._works, self._exchange = [*arrivals, *departures], exchange
        self._peers = () if arrivals is departures else (*exchange.in_peers, *exchange.out_peers)

    def wait(self) -> list[float]:
        """Wait until all messages have arrived and left; return the weights of the in-peers.

        Raises:
            PeerLost: a peer is gone.
        """
        assert self._exchange is not None, "nothing was posted"
        exchange, self._exchange = self._exchange, None
        wait(self._works, exchange, self._peers)
        return [float(self._in[slot]) for slot in range(len(exchange.in_peers))]


def wait(works: Iterable[Any], exchange: Exchange, peers: Sequence[int] = (), marks: Marks | None = None) -> None:
    """Wait for sends or receives.

    Args:
        works: from :meth:`PointToPoint.post`.
        exchange: what fails if a peer is missed.
        peers: the peer of each work, in turn, where it is known.
        marks: records when the message of each peer was there, and how long the wait was.

    Raises:
        PeerLost: a peer is gone.
    """
    begin = 0 if marks is None else now()
    for slot, work in enumerate(works):
        begin_work = 0 if marks is None else now()
        try:
            work.wait()
        except RuntimeError as error:
            missing = [peers[slot % len(peers)]] if peers else []
            raise exchange.lost(f"rank {missing[0]}: {error}" if missing else error, missing) from error
        if marks is not None:
            marks.arrived[peers[slot]] = end = now()
            if end - begin_work > AT_ONCE_NS:
                marks.hidden.discard(peers[slot])
    if marks is not None:
        marks.waited += now() - begin
