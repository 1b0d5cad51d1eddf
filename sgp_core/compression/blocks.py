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


def largest(vector: Tensor, size: int, out: Tensor, spare: Tensor) -> None:
    """Set ``out`` to the largest magnitude in each block; ``spare`` is like ``vector``, and overwritten."""
    import torch

    for blocks, into in zip(_blocks(vector, size), _of_blocks(out, vector.numel(), size), strict=True):
        rows = len(into)
        if spare.numel() < 2 * rows:  # blocks of one element
            into.copy_(torch.amax(torch.abs(blocks), 1))
            continue
        # Two passes that write next to nothing are faster than one that writes all magnitudes.
        most, least = spare[:rows], spare[rows : 2 * rows]
        torch.amax(blocks, 1, out=most)
        torch.amin(blocks, 1, out=least)
        into.copy_(torch.maximum(most, least.neg_(), out=most))


def scale_(scales: Tensor, by: float) -> Tensor:
    """Multiply scales by a number, without allocating one."""
    from sgp_core.tensors.flat_vector import as_operand

    return scales.mul_(as_operand(by, scales))


def multiply_(vector: Tensor, size: int, scales: Tensor) -> None:
    """Multiply each block by its scale."""
    for blocks, own in zip(_blocks(vector, size), _of_blocks(scales, vector.numel(), size), strict=True):
        blocks.mul_(own[:, None])


def divide_(vector: Tensor, size: int, scales: Tensor) -> None:
    """Divide each block by its scale."""
    for blocks, own in zip(_blocks(vector, size), _of_blocks(scales, vector.numel(), size), strict=True):
        blocks.div_(own[:, None])


def _blocks(vector: Tensor, size: int) -> list[Tensor]:
    """Return the whole blocks as rows, ``[count, size]``, possibly none, then the rest, if any, as one row."""
    numel = vector.numel()  # len() of a tensor is slow
    whole = numel // size * size
    if whole == numel:
        return [vector.view(-1, size)]
    return [vector[:whole].view(-1, size), vector[whole:].view(1, -1)]


def _of_blocks(numbers: Tensor, numel: int, size: int) -> list[Tensor]:
    """Return the numbers of the blocks that :func:`_blocks` returns."""
    return [numbers] if numel % size == 0 else [numbers[: numel // size], numbers[numel // size :]]
