"""Exchanges that send compressed differences, between real workers and between virtual ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.distributed as dist
from torch import Tensor

from sgp_core.compression import Codec, Layout
from sgp_core.flat import Flat, Scalar
from sgp_core.runtime.distributed import DistributedNetwork
from sgp_core.runtime.references import Part, References
from sgp_core.topology import Topology


class CompressedNetwork(DistributedNetwork):
    """A network of real workers whose ``mix`` sends what a codec makes of it, as messages of their process group.

    Args:
        codec: how messages are coded.
        options: as for :class:`DistributedNetwork`.
    """

    def __init__(self, codec: Codec, *options: Any) -> None:
        super().__init__(*options)
        self._codec = codec
        self._references: References | None = None

    def begin(self, layout: Layout, start: Flat) -> None:
        """Let references start as ``start``, of this layout, which every worker holds."""
        self._references = References(self.rank, self._codec, layout, start, self.topology)

    def post(self, x: Flat, step: int, weight: Scalar | None = None) -> None:
        """Do nothing: messages are coded in :meth:`mix`, all at once."""

    def mix(self, x: Flat, step: int, weight: Scalar | None = None) -> Scalar:
        """Replace ``x_i`` by ``x_i - sum_l P_li r_(i->l) + sum_j P_ij r_(j->i)``; return the weight mixed, exactly.

        Raises:
            RuntimeError: a peer is gone; the message names the step and the peers.
        """
        if self.transport is None:
            return 1.0 if weight is None else weight
        assert self._references is not None, "begin() was not called"
        with self._timed("mix", step, x):
            part = Part.of(self.topology, self.rank, step, self._codec.gamma)
            own = None if weight is None else float(weight)
            sends = self._references.give(x, part, own)
            self._send_and_receive(sends, self._references.inboxes(part, own), step)
            self.bytes_sent += sum(sent.numel() for sent in sends.values())
            return self._references.take(x, part, own)

    def _send_and_receive(self, sends: Mapping[int, Tensor], inboxes: Mapping[int, Tensor], step: int) -> None:
        receives = [dist.P2POp(dist.irecv, into, self._global(peer), self.group) for peer, into in inboxes.items()]
        posted = [
            *receives,
            *(dist.P2POp(dist.isend, out, self._global(peer), self.group) for peer, out in sends.items()),
        ]
        try:
            for work in dist.batch_isend_irecv(posted) if posted else ():
                work.wait()
        except RuntimeError as error:
            raise self._exchange(step).lost(error) from error

    def references(self) -> dict[str, Any]:
        """Return what a resume needs of the references."""
        return {} if self._references is None else self._references.state_dict()

    def load_references(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`references`."""
        if self._references is not None:
            self._references.load_state_dict(state)


class SimulatedReferences:
    """The same between virtual workers, row by row: the same codecs on the same bytes.

    Args:
        start: rows of models; references start as the first, as those of real workers do.
    """

    def __init__(self, codec: Codec, layout: Layout, start: Flat, topology: Topology) -> None:
        self._codec = codec
        self._topology = topology
        first = _row(start, 0)
        self._ends = [References(rank, codec, layout, first, topology) for rank in range(topology.world_size)]

    def mix(self, x: Flat, step: int, weight: Scalar | None = None) -> Scalar:
        """Mix every row; return the weights, ``[n, 1]``, mixed alike (1 if None)."""
        parts = [Part.of(self._topology, rank, step, self._codec.gamma) for rank in range(len(self._ends))]
        weights = weight.flatten().tolist() if isinstance(weight, Tensor) else [weight] * len(self._ends)
        rows = [_row(x, rank) for rank in range(len(self._ends))]
        workers = list(zip(self._ends, rows, parts, weights, strict=True))
        sent = [end.give(row, part, own) for end, row, part, own in workers]
        for rank, (end, _, part, own) in enumerate(workers):
            for sender, inbox in end.inboxes(part, own).items():
                inbox.copy_(sent[sender][rank])
        mixed = [end.take(row, part, own) for end, row, part, own in workers]
        return weight.new_tensor(mixed).view_as(weight) if isinstance(weight, Tensor) else 1.0


def _row(x: Flat, rank: int) -> Flat:
    return Flat([tensor[rank] for tensor in x.tensors])
