"""Exact averages that travel while training goes on, and the memory in which they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sgp_core.compression import Codec
from sgp_core.distributed.collectives import Collectives, PendingMean
from sgp_core.runtime.coded_exchange import CodedExchange
from sgp_core.tensors.flat_vector import FlatVector


class _Travelling(NamedTuple):
    """An average under way, or one that has arrived."""

    mean: FlatVector
    memory: list[Tensor]
    """Of ``mean``, one tensor for each dtype and device."""
    pending: PendingMean | CodedExchange | None
    """None: it has arrived."""


class TravellingMeans:
    """Averages of a worker that were posted and not yet taken, by key.

    A vector is copied when it is posted: into one tensor for each dtype and device, so that a fragment of many
    stretches is one collective. The copies' memory is used again and again.

    Args:
        collectives: of the workers that average.
    """

    def __init__(self, collectives: Collectives) -> None:
        self._collectives = collectives
        self._travelling: dict[int, _Travelling] = {}
        self._free: list[list[Tensor]] = []

    def post(self, x: FlatVector, key: int, codec: Codec | None = None) -> int:
        """Copy ``x`` and begin to average the copies of all workers; return the bytes that this worker sends.

        With a codec ``x`` becomes what the codes of its copy leave out, at the latest when the average is taken.
        """
        assert key not in self._travelling, "an average of this key is under way"
        mean, memory = self._lay_out(x.tensors)
        mean.copy_(x)
        size = self._collectives.size
        pending: PendingMean | CodedExchange
        if codec is None or size == 1:
            pending, nbytes = self._collectives.begin_mean(mean), bytes_of_mean(x, size)
            if codec is not None:
                x.zero_()
        else:
            pending = CodedExchange(x, mean, codec, key, self._collectives)
            nbytes = pending.nbytes
        self._travelling[key] = _Travelling(mean, memory, pending)
        return nbytes

    def forward(self, key: int) -> None:
        """Let the second exchange of a coded average begin, once the first is over."""
        pending = self._travelling[key].pending
        if isinstance(pending, CodedExchange):
            pending.forward()

    def take(self, key: int) -> FlatVector:
        """Wait for an average, and return it; its memory is the caller's until the next :meth:`post`.

        Raises:
            PeerLost: another worker is gone.
        """
        found = self._travelling.pop(key)
        if found.pending is not None:
            found.pending.wait()
        self._free.append(found.memory)
        return found.mean

    def settle(self) -> None:
        """Wait until all have arrived; they are still to be taken."""
        for key, found in self._travelling.items():
            if found.pending is not None:
                found.pending.wait()
                self._travelling[key] = found._replace(pending=None)

    def forget(self) -> None:
        """Wait until what has been sent of them has arrived, and give them up."""
        for found in self._travelling.values():
            if isinstance(found.pending, CodedExchange):
                found.pending.discard()
            elif found.pending is not None:
                found.pending.wait()
        self._travelling.clear()

    def content(self) -> dict[int, list[Tensor]]:
        """Wait, and return copies of what has arrived, by key."""
        self.settle()
        return {key: [tensor.clone() for tensor in found.mean.tensors] for key, found in self._travelling.items()}

    def load(self, content: Mapping[int, Sequence[Tensor]], like: Tensor) -> None:
        """Go on from :meth:`content`, on the device of ``like``."""
        self.forget()
        for key, tensors in content.items():
            here = [tensor.to(like.device) for tensor in tensors]
            mean, memory = self._lay_out(here)
            mean.copy_(FlatVector(here))
            self._travelling[int(key)] = _Travelling(mean, memory, None)

    def _lay_out(self, tensors: Sequence[Tensor]) -> tuple[FlatVector, list[Tensor]]:
        """Return a vector of these sizes in memory that is free."""
        sizes: dict[Any, int] = {}
        for tensor in tensors:
            kind = tensor.dtype, tensor.device
            sizes[kind] = sizes.get(kind, 0) + tensor.numel()
        memory = self._memory(sizes)
        wire = [piece[:size] for piece, size in zip(memory, sizes.values(), strict=True)]
        ends = dict.fromkeys(sizes, 0)
        views = []
        for tensor in tensors:
            kind = tensor.dtype, tensor.device
            begin, ends[kind] = ends[kind], ends[kind] + tensor.numel()
            views.append(wire[list(sizes).index(kind)][begin : ends[kind]])
        return FlatVector(views, wire=wire), memory

    def _memory(self, sizes: Mapping[Any, int]) -> list[Tensor]:
        for number, memory in enumerate(self._free):
            if len(memory) == len(sizes) and all(
                (piece.dtype, piece.device) == kind and len(piece) >= size
                for piece, (kind, size) in zip(memory, sizes.items(), strict=True)
            ):
                return self._free.pop(number)
        self._free.clear()  # too small: fragments differ by an element or a few
        return [torch.empty(size, dtype=dtype, device=device) for (dtype, device), size in sizes.items()]


def bytes_of_mean(x: FlatVector, world_size: int) -> int:
    """Return the bytes that a worker sends for an exact average, as a ring does it."""
    return x.nbytes * 2 * (world_size - 1) // world_size
