"""How the parameters of a model lie in flat memory. Imports without torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod


@dataclass(frozen=True)
class TensorLayout:
    """One tensor of a vector: its elements, their dtype's name, and offset and shape of each parameter in it."""

    numel: int
    dtype: str
    parameters: tuple[tuple[int, tuple[int, ...]], ...]

    @classmethod
    def packed(cls, shapes: Sequence[Sequence[int]], dtype: str) -> TensorLayout:
        """Return the layout of parameters that lie one after another, without gaps."""
        offsets = [0, *accumulate(prod(shape) for shape in shapes)]
        return cls(offsets[-1], dtype, tuple(zip(offsets, map(tuple, shapes), strict=False)))

    def between(self, begin: int, end: int) -> TensorLayout:
        """Return the layout of the elements from ``begin`` to ``end``, or to the last element if that comes first.

        If a cut goes through a matrix, its whole rows are a smaller matrix, and the rest of a row on either side is a
        vector.
        """
        end = min(end, self.numel)
        begin = min(begin, end)
        parameters: list[tuple[int, tuple[int, ...]]] = []
        for offset, shape in self.parameters:
            first, last = max(begin - offset, 0), min(end - offset, prod(shape))
            parameters += [(offset + at - begin, part) for at, part in _slice_shapes(shape, first, last)]
        return TensorLayout(end - begin, self.dtype, tuple(parameters))


def _slice_shapes(shape: tuple[int, ...], begin: int, end: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield offset and shape of the parts of a parameter that lie between its elements ``begin`` and ``end``."""
    if begin >= end:
        return
    if end - begin == prod(shape):
        yield 0, shape
        return
    row = prod(shape[1:])
    first, last = -(-begin // row), end // row
    if len(shape) < 2 or first >= last:
        yield begin, (end - begin,)
        return
    if begin < first * row:
        yield begin, (first * row - begin,)
    yield first * row, (last - first, *shape[1:])
    if last * row < end:
        yield last * row, (end - last * row,)


Layout = Sequence[TensorLayout]
"""The layout of a model's vector, tensor by tensor."""
