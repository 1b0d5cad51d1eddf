"""A parameter-sized vector in a few contiguous pieces, with in-place arithmetic: the operand of every rule."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor as Tensor

Scalar = float | Tensor
"""One number per worker: a Python float in a real worker, a float64 tensor ``[n, 1]`` in the simulator."""


class _Scalars(threading.local):
    """One tensor per dtype, used again: on CPU, arithmetic with a Python float would allocate a tensor for it."""

    def __init__(self) -> None:
        self.known: dict[torch.dtype, Tensor] = {}


_SCALARS = _Scalars()


def as_operand(scale: Scalar, like: Tensor) -> Scalar:
    """Return ``scale`` in a form that multiplies or divides ``like`` without a conversion or an allocation."""
    if isinstance(scale, Tensor):
        return scale.to(like.dtype)
    if like.device.type != "cpu":
        return scale
    if like.dtype not in _SCALARS.known:
        _SCALARS.known[like.dtype] = torch.zeros((), dtype=like.dtype)
    return _SCALARS.known[like.dtype].fill_(scale)


class FlatVector:
    """One vector held as a list of tensors (one per dtype and device), updated in place.

    Args:
        tensors: the pieces. In a worker each is one-dimensional and contiguous; in the simulator ``[n, d]``.
        wire: the tensors that are sent with the vector, if more than ``tensors`` themselves.
        begins: for a part of a vector, its offset in each piece; None for a whole vector.
        first: whether it is the first of the parts that together make the vector.
        last: whether it is the last of them. A whole vector is both.
        shards: equal parts of each row of ``[n, d]``, which the workers of a node hold one each.

    Attributes:
        is_part: whether this is a part of a vector, even if the only one.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        wire: Sequence[Tensor] | None = None,
        begins: Sequence[int] | None = None,
        *,
        first: bool = True,
        last: bool = True,
        shards: int = 1,
    ) -> None:
        self.tensors = list(tensors)
        self.wire = self.tensors if wire is None else list(wire)
        self.begins = begins
        self.first, self.last = first, last
        self.shards = shards
        self.of_shards: tuple[int, ...] = (len(self.tensors),)
        """How many of the tensors are of each shard."""
        self.is_part = begins is not None

    def part(self, spans: Sequence[tuple[int, int]], *, first: bool, last: bool) -> FlatVector:
        """Return the part from begin to end of each piece, sharing memory."""
        pieces = [tensor[begin:end] for tensor, (begin, end) in zip(self.tensors, spans, strict=True)]
        return FlatVector(pieces, begins=[begin for begin, _ in spans], first=first, last=last)

    def at(self, part: FlatVector) -> FlatVector:
        """Return the same part of this vector as ``part`` is of its own, sharing memory; all of it if that is whole."""
        if part.begins is None:
            return self
        spans = [(begin, begin + tensor.numel()) for begin, tensor in zip(part.begins, part.tensors, strict=True)]
        return self.part(spans, first=part.first, last=part.last)

    def fragment(self, number: int, count: int, stretches: int = 1) -> FlatVector:
        """Return one of ``count`` fragments that together are the vector, sharing memory.

        Each piece is cut into ``count * stretches`` stretches as equal as can be, which the fragments get in turn. Rows
        of ``[n, d]`` are cut alike, and as the workers of nodes cut their shards.
        """
        cuts = count * stretches
        spans: list[Tensor] = []
        ends = [0]
        for shard in range(self.shards):
            for tensor in self.tensors:
                length = tensor.shape[-1]
                size = -(-length // self.shards)
                begin = min(shard * size, length)
                part = min(size, length - begin)
                for cut in range(number, cuts, count):
                    first, last = begin + cut * part // cuts, begin + (cut + 1) * part // cuts
                    if first < last:
                        spans.append(tensor[..., first:last])
            ends.append(len(spans))
        fragment = FlatVector(spans)
        fragment.of_shards = tuple(end - begin for begin, end in itertools.pairwise(ends))
        return fragment

    @property
    def numel(self) -> int:
        """Number of elements."""
        return sum(tensor.numel() for tensor in self.tensors)

    @functools.cached_property
    def nbytes(self) -> int:
        """Number of bytes that are sent with one copy of the vector."""
        return sum(t.numel() * t.element_size() for t in self.wire)

    def copy_(self, other: FlatVector) -> FlatVector:
        """Set to ``other``."""
        for mine, theirs in zip(self.tensors, other.tensors, strict=True):
            mine.copy_(theirs)
        return self

    def zero_(self) -> FlatVector:
        """Set to zero."""
        for tensor in self.tensors:
            tensor.zero_()
        return self

    def add_(self, other: FlatVector, scale: Scalar = 1.0) -> FlatVector:
        """Add ``scale * other``."""
        for mine, theirs in zip(self.tensors, other.tensors, strict=True):
            if isinstance(scale, Tensor):
                mine.addcmul_(theirs, scale.to(mine.dtype))
            else:
                mine.add_(theirs, alpha=scale)
        return self

    def mul_(self, scale: Scalar) -> FlatVector:
        """Multiply by ``scale``."""
        for tensor in self.tensors:
            tensor.mul_(as_operand(scale, tensor))
        return self

    def div_(self, scale: Scalar) -> FlatVector:
        """Divide by ``scale``."""
        for tensor in self.tensors:
            tensor.div_(as_operand(scale, tensor))
        return self

    def clone(self) -> FlatVector:
        """Return a copy with memory of its own."""
        return self._like_this(torch.clone)

    def zeros_like(self) -> FlatVector:
        """Return zeros of the same layout."""
        return self._like_this(torch.zeros_like)

    def _like_this(self, make: Callable[[Tensor], Tensor]) -> FlatVector:
        return FlatVector([make(tensor) for tensor in self.tensors], shards=self.shards)
