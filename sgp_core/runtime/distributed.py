"""Exchanges between real workers: batched point-to-point messages on one torch.distributed process group."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor

from sgp_core.flat import Flat, Scalar
from sgp_core.runtime.mixing import mix_
from sgp_core.topology import Topology

_CHUNK_BYTES = 4 << 20
"""Messages on CPU are cut to this size, so that mixing one chunk runs beside the transfer of the next."""


@dataclass(frozen=True)
class _Chunk:
    """A stretch of a vector, and where the same stretch of each in-peer's vector is received."""

    mine: Tensor
    slots: list[Tensor]


class DistributedNetwork:
    """What :class:`sgp_core.algorithms.Network` describes, over one process group.

    Messages leave from the vector itself and arrive in one reused inbox, as large as the parameters whatever the
    in-degree: with k in-peers the exchange runs in k waves over a k-th of the vector each. Receives are always posted
    before sends, since gloo serialises the two directions of a pair otherwise. Nothing is allocated after the first
    exchange of each shape, no communicator is created, and no thread.

    Args:
        topology: who talks to whom.
        like: a vector of the model's layout.
        group: the process group, None for the default one; without torch.distributed, a world of one.
    """

    def __init__(self, topology: Topology, like: Flat, group: dist.ProcessGroup | None = None) -> None:
        alone = not dist.is_initialized()
        self.topology = topology
        self.group = group
        self.rank = 0 if alone else dist.get_rank(group)
        self.world_size = 1 if alone else dist.get_world_size(group)
        # Stretches are rounded up, so a wave may need a few elements more than the vector has.
        self._room = [tensor.new_zeros(tensor.numel() + self.world_size) for tensor in like.tensors]
        self.inbox = Flat([room[: t.numel()] for room, t in zip(self._room, like.tensors, strict=True)])
        self.bytes_sent = 0
        self.seconds = 0.0
        self._global_rank = [r if group is None else dist.get_global_rank(group, r) for r in range(self.world_size)]
        self._waves: WeakKeyDictionary[Flat, dict[int, list[list[_Chunk]]]] = WeakKeyDictionary()
        device = like.tensors[0].device
        self._weight_out = torch.zeros(1, dtype=torch.float64, device=device)
        self._weights_in = torch.zeros(self.world_size, 1, dtype=torch.float64, device=device)

    # -- the two verbs ----------------------------------------------------------------------------------------------
    def mix(self, x: Flat, step: int, weight: Scalar | None = None) -> Scalar:
        """Replace ``x_i`` by ``sum_j P_ij(step) x_j`` in place; return the PushSum weight mixed alike (1 if None).

        Raises:
            RuntimeError: a peer is gone; the message names the step and the peer.
        """
        edges = self.topology.edges(step)
        in_peers, out_peers = edges.in_peers[self.rank], edges.out_peers[self.rank]
        own, shares = edges.own_weight[self.rank], edges.in_weights[self.rank]
        if self.world_size == 1:
            return 1.0 if weight is None else weight
        with self._timed():
            inflight = [] if weight is None else self._post_weight(float(weight), in_peers, out_peers)
            for wave in self._waves_of(x, edges.max_in_degree):
                self._exchange(wave, step, in_peers, out_peers, own, shares)
            self.bytes_sent += len(out_peers) * (x.nbytes + (0 if weight is None else 8))
            if weight is None:
                return 1.0
            self._wait(inflight, step, in_peers, out_peers)
            mixed = own * float(weight)
            for slot, share in enumerate(shares):
                mixed += share * float(self._weights_in[slot])
            return mixed

    def mean(self, x: Flat) -> None:
        """Replace ``x_i`` by the exact average over all workers, in place."""
        if self.world_size == 1:
            return
        with self._timed():
            for work in [dist.all_reduce(tensor, group=self.group, async_op=True) for tensor in x.wire]:
                work.wait()
            for tensor in x.wire:
                tensor.div_(self.world_size)
            self.bytes_sent += x.nbytes * 2 * (self.world_size - 1) // self.world_size

    # -- beside training -----------------------------------------------------------------------------------------------
    def broadcast(self, tensors: list[Tensor]) -> None:
        """Set every worker's tensors to rank 0's."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=self._global_rank[0], group=self.group)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of a small tensor over all workers."""
        if self.world_size > 1:
            dist.all_reduce(values, group=self.group)
        return values

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Leave what is sent inside, for evaluation or diagnosis, out of the training's bytes and seconds."""
        bytes_sent, seconds = self.bytes_sent, self.seconds
        try:
            yield
        finally:
            self.bytes_sent, self.seconds = bytes_sent, seconds

    # -- one wave ------------------------------------------------------------------------------------------------------
    def _exchange(
        self,
        wave: list[_Chunk],
        step: int,
        in_peers: tuple[int, ...],
        out_peers: tuple[int, ...],
        own: float,
        shares: tuple[float, ...],
    ) -> None:
        receives = [[self._receive(slot, peer) for slot, peer in zip(c.slots, in_peers, strict=False)] for c in wave]
        sends = [[self._send(chunk.mine, peer) for peer in out_peers] for chunk in wave]
        posted = [op for ops in (*receives, *sends) for op in ops]
        if not posted:
            return
        works = dist.batch_isend_irecv(posted)
        if len(works) != len(posted):  # a backend that coalesces the batch into one operation: NCCL
            self._wait(works, step, in_peers, out_peers)
            works = []
        incoming, outgoing = (
            iter(works[: len(wave) * len(in_peers)]),
            iter(works[len(wave) * len(in_peers) :]),
        )
        for chunk in wave:
            self._wait(islice(incoming, len(in_peers)), step, in_peers, ())
            self._wait(islice(outgoing, len(out_peers)), step, (), out_peers)
            kept = own
            for slot, share in zip(chunk.slots, shares, strict=False):
                mix_(chunk.mine, kept, slot, share)
                kept = 1.0
            if not shares and own != 1.0:
                chunk.mine.mul_(own)

    def _post_weight(self, weight: float, in_peers: tuple[int, ...], out_peers: tuple[int, ...]) -> list[Any]:
        self._weight_out.fill_(weight)
        receives = [self._receive(self._weights_in[slot], peer) for slot, peer in enumerate(in_peers)]
        posted = receives + [self._send(self._weight_out, peer) for peer in out_peers]
        return dist.batch_isend_irecv(posted) if posted else []

    def _receive(self, into: Tensor, peer: int) -> dist.P2POp:
        return dist.P2POp(dist.irecv, into, self._global_rank[peer], self.group)

    def _send(self, what: Tensor, peer: int) -> dist.P2POp:
        return dist.P2POp(dist.isend, what, self._global_rank[peer], self.group)

    def _wait(self, works: Iterable[Any], step: int, in_peers: tuple[int, ...], out_peers: tuple[int, ...]) -> None:
        try:
            for work in works:
                work.wait()
        except RuntimeError as error:
            where = f"receiving from {list(in_peers)}, sending to {list(out_peers)}"
            raise RuntimeError(f"rank {self.rank} lost its exchange of step {step} ({where}): {error}") from error

    def _waves_of(self, x: Flat, in_degree: int) -> list[list[_Chunk]]:
        """Return views for an exchange with up to ``in_degree`` in-peers anywhere; every rank cuts alike."""
        known = self._waves.setdefault(x, {})
        if in_degree not in known:
            known[in_degree] = _cut(x, self._room, in_degree)
        return known[in_degree]

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start


def _cut(x: Flat, rooms: list[Tensor], in_degree: int) -> list[list[_Chunk]]:
    """Cut ``x`` into ``in_degree`` waves of chunks, each with one slot of the inbox per in-peer."""
    waves: list[list[_Chunk]] = [[] for _ in range(in_degree)]
    for mine, room in zip(x.tensors, rooms, strict=True):
        share = -(-mine.numel() // in_degree) if in_degree else 0
        chunk = share if mine.is_cuda else max(1, _CHUNK_BYTES // mine.element_size())
        for number, wave in enumerate(waves):
            begin, end = number * share, min((number + 1) * share, mine.numel())
            length = max(0, end - begin)
            for at in range(0, length, max(1, chunk)):
                size = min(chunk, length - at)
                slots = [room[s * length + at : s * length + at + size] for s in range(in_degree)]
                wave.append(_Chunk(mine[begin + at : begin + at + size], slots))
    return waves
