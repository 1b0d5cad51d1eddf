"""A few numbers in place of a model, whose distances are those of the models: a random projection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from sgp_core.tensors.flat_vector import FlatVector

WIDTH = 512
"""Numbers in a sketch; the relative error of a distance is about ``sqrt(1 / (2 WIDTH))``, 3 %."""
_FOLD = 1024
"""Rows that are added with signs of their own, so that a matrix of few directions is not mistaken for one."""


class RandomProjection:
    """Projects vectors of one layout to ``WIDTH`` numbers; linear, the same on every worker, one pass over memory.

    Johnson and Lindenstrauss, 1984, with signs (Achlioptas, 2003): the vector is folded with random signs to ``_FOLD``
    rows, then those rows with signs that differ in every place, so ``E ||sketch(v)||^2 = ||v||^2``. Stretches of one
    vector may be projected apart: their sketches add up to that of the whole.

    Args:
        like: a vector of the layout; in the simulator one of ``[n, d]``, whose rows are projected apart.
        begins: where each of its tensors begins in that of the whole vector; None: it is the whole.
    """

    def __init__(self, like: FlatVector, begins: Sequence[int] | None = None) -> None:
        device = like.tensors[0].device
        self._length = _FOLD * WIDTH
        rows = 1  # that a short vector needs
        self._cuts: list[tuple[list[int], int, Tensor]] = []
        for number, tensor in enumerate(like.tensors):
            first, at = divmod(begins[number] if begins else 0, self._length)
            end = at + tensor.shape[-1]
            bounds = [at, *range(self._length, end, self._length), end]
            signs = _signs(first + len(bounds) - 1, 1 + number)[first:].to(device)
            self._cuts.append(([after - before for before, after in pairwise(bounds)], at, signs))
            rows = max(rows, -(-min(end, self._length) // WIDTH))
        self._fold_signs = _signs(self._length, 0).view(_FOLD, WIDTH)[:rows].to(device)

    def of(self, vector: FlatVector) -> tuple[Tensor, Tensor]:
        """Return the sketch, ``[..., WIDTH]``, and the exact squared norm, ``[...]``, both float64."""
        lead = vector.tensors[0].shape[:-1]
        folded = self._fold_signs.new_zeros(*lead, self._fold_signs.numel())
        square = self._fold_signs.new_zeros(lead)
        for tensor, (sizes, at, signs) in zip(vector.tensors, self._cuts, strict=True):
            begin = at
            for piece, sign in zip(tensor.split(sizes, dim=-1), signs, strict=True):
                wide = piece.to(torch.float64)
                folded[..., begin : begin + piece.shape[-1]].add_(wide * sign)
                square += wide.square().sum(-1)
                begin = 0
        return (folded.view(*lead, -1, WIDTH) * self._fold_signs).sum(-2), square


def distance(sketches: Tensor, squares: Tensor) -> float:
    """Return the relative consensus distance of models with these sketches, ``[n, WIDTH]``, and squared norms, ``[n]``.

    ``sqrt(mean_i ||z_i - z_bar||^2) / ||z_bar||``, where ``||z_bar||^2 = mean ||z_i||^2 - mean ||z_i - z_bar||^2``.
    Summed exactly, so that unlike machines come to the same number and decide alike.
    """
    n = len(squares)
    means = [math.fsum(column) / n for column in sketches.T.tolist()]
    rows = sketches.tolist()
    spread = math.fsum((value - mean) ** 2 for row in rows for value, mean in zip(row, means, strict=True)) / n
    return float((spread / max(math.fsum(squares.tolist()) / n - spread, 1e-300)) ** 0.5)


def _signs(count: int, stream: int) -> Tensor:
    """Return the first ``count`` signs of a stream of them; more of one begin with the same."""
    generator = torch.Generator().manual_seed(20_031_217 + stream)
    return torch.randint(0, 2, (count,), generator=generator, dtype=torch.float64).mul_(2).sub_(1)
