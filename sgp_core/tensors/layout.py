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
        """Return the layout of parameters that lie one after another."""
        offsets = [0, *accumulate(prod(shape) for shape in shapes)]
        return cls(offsets[-1], dtype, tuple(zip(offsets, map(tuple, shapes), strict=False)))

    def between(self, begin: int, end: int) -> TensorLayout:
        """Return the layout of the elements from ``begin`` to ``end``, as far as there are so many.

        Of a weight that is cut, its whole rows are a smaller weight, and what is left of a row on either side is a
        vector.
        """
        end = min(end, self.numel)
        begin = min(begin, end)
        found: list[tuple[int, tuple[int, ...]]] = []
        for offset, shape in self.parameters:
            first, last = max(begin - offset, 0), min(end - offset, prod(shape))
            found += [(offset + at - begin, part) for at, part in _slice_shapes(shape, first, last)]
        return TensorLayout(end - begin, self.dtype, tuple(found))


def _slice_shapes(shape: tuple[int, ...], begin: int, end: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield where the parts of a parameter's elements from ``begin`` to ``end`` start, and their shapes."""
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
"""How a model's vector lies in memory, tensor by tensor."""
