"""A coded average under way: two exchanges of all workers, the second of which needs the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist

from sgp_core.compression import Codec
from sgp_core.distributed.collectives import Collectives
from sgp_core.errors import PeerLost
from sgp_core.runtime.coded_mean import CodedMean
from sgp_core.runtime.compressed.payload import Payload
from sgp_core.tensors.flat_vector import FlatVector


class CodedExchange:
    """The average of ``mean``, which becomes it, in coded form; ``x`` becomes what is left out.

    No thread leads from the first exchange to the second: :meth:`forward` does, which all workers call after the same
    step, best halfway.

    Args:
        x: what ``mean`` is a copy of.
        mean: in contiguous memory.
        codec: of both exchanges.
        key: of the average.
        workers: that take part, at least two.

    Attributes:
        nbytes: that this worker sends, in both.
    """

    def __init__(self, x: FlatVector, mean: FlatVector, codec: Codec, key: int, workers: Collectives) -> None:
        self._x, self._mean, self._workers = x, mean, workers
        self._coded = CodedMean(codec, mean.wire, workers.rank, workers.size, key)
        self._forwarded = False
        given = self._coded.code_slices()
        x.copy_(mean)
        self._own = {peer: self._coded.payload(workers.rank) for peer in given}
        self._exchange(given, self._own)
        own = self._coded.payload(workers.rank).bytes(weighed=False).numel()
        self.nbytes = len(given) * own + sum(payload.bytes(weighed=False).numel() for payload in given.values())

    def forward(self) -> None:
        """Wait for what others have coded of this worker's slice, and begin to send them its average.

        Raises:
            PeerLost: another worker is gone.
        """
        if self._forwarded:
            return
        self._forwarded = True
        self._arrive()
        result = self._coded.average({peer: self._filled(payload, peer) for peer, payload in self._own.items()})
        self._x.copy_(self._mean)
        self._averages = {peer: self._coded.payload(peer) for peer in self._own}
        self._exchange(dict.fromkeys(self._own, result), self._averages)
        self._coded.take(self._workers.rank, result)

    def wait(self) -> None:
        """Return once ``mean`` is the average.

        Raises:
            PeerLost: another worker is gone.
        """
        self.forward()
        self._arrive()
        for peer, payload in self._averages.items():
            self._coded.take(peer, self._filled(payload, peer))

    def discard(self) -> None:
        """Wait until what has been sent has arrived, in place of :meth:`wait`."""
        self._arrive()

    def _exchange(self, given: Mapping[int, Payload], taken: Mapping[int, Payload]) -> None:
        """Begin to send a payload to each other worker, and to receive one of each."""
        ranks = range(self._workers.size)
        out = [given[rank].bytes(weighed=False) for rank in ranks if rank in given]
        sizes = [taken[rank].bytes(weighed=False).numel() if rank in taken else 0 for rank in ranks]
        self._inbox = out[0].new_empty(sum(sizes))
        self._places = dict(zip(ranks, self._inbox.split(sizes), strict=True))
        lengths = [given[rank].bytes(weighed=False).numel() if rank in given else 0 for rank in ranks]
        self._outbox = torch.cat(out)
        self._work: Any = dist.all_to_all_single(
            self._inbox, self._outbox, sizes, lengths, group=self._workers.group, async_op=True
        )

    def _filled(self, payload: Payload, peer: int) -> Payload:
        payload.bytes(weighed=False).copy_(self._places[peer])
        return payload

    def _arrive(self) -> None:
        try:
            self._work.wait()
        except RuntimeError as error:
            rank = self._workers.global_rank(self._workers.rank)
            raise PeerLost(f"rank {rank} lost another worker while averaging: {error}", rank=rank) from error
