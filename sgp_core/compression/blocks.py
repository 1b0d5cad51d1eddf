"""One number per block of a vector: the scale that its elements are sent relative to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 2.0**-126
"""The smallest normal float32: at least this much to divide by, so that a block of zeros divides to zeros."""


def count(numel: int, size: int) -> int:
    """Return the number of blocks of ``size`` elements, the last one shorter, that ``numel`` elements make."""
    return -(-numel // size)


def largest(magnitudes: Tensor, size: int, out: Tensor) -> None:
    """Set ``out`` to the largest element of each block."""
    import torch

    for blocks, into in zip(_blocks(magnitudes, size), (out[: len(magnitudes) // size], out[-1:]), strict=False):
        if into.dtype == magnitudes.dtype:
            torch.amax(blocks, 1, out=into)
        else:
            into.copy_(torch.amax(blocks, 1))


def scale_(scales: Tensor, by: float) -> Tensor:
    """Multiply scales by a number, without allocating one."""
    from sgp_core.tensors.flat_vector import as_operand

    return scales.mul_(as_operand(by, scales))


def multiply_(vector: Tensor, size: int, scales: Tensor) -> None:
    """Multiply each block by its scale."""
    for blocks, own in zip(_blocks(vector, size), (scales[: len(vector) // size], scales[-1:]), strict=False):
        blocks.mul_(own[:, None])


def divide_(vector: Tensor, size: int, scales: Tensor) -> None:
    """Divide each block by its scale."""
    for blocks, own in zip(_blocks(vector, size), (scales[: len(vector) // size], scales[-1:]), strict=False):
        blocks.div_(own[:, None])


def _blocks(vector: Tensor, size: int) -> list[Tensor]:
    """Return the whole blocks as rows, ``[count, size]``, possibly none, then the rest, if any, as one row."""
    whole = len(vector) // size * size
    blocks = [vector[:whole].view(-1, size)]
    return [*blocks, vector[whole:].view(1, -1)] if whole < len(vector) else blocks
