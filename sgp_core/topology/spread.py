"""How far apart workers stay while they learn: the stationary consensus distance, in closed form.

Every worker adds an update with independent noise of unit variance to its model in every step, and models mix as the
rule says. The noise of updates drives models apart, mixing draws them together, and their distance settles where the
two balance: the consensus term in Koloskova, Loizou, Boreiri, Jaggi, Stich, "A Unified Theory of Decentralized SGD with
Changing Topology and Local Updates", ICML 2020; the random walk of Vogels, Hendrikx, Jaggi, "Beyond Spectral Gap",
NeurIPS 2022, with gamma = 1. Written for de-biased models z, so that graphs that need PushSum have it, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MOST_DOUBLINGS = 60
_SETTLED = 1e-12
"""Relative change below which a sum has settled."""


def spread(matrices: Sequence[np.ndarray], *, mixes_before_update: bool = False) -> float:
    """Return the stationary distance of models from their mean where gradients are taken, in updates.

    It is ``sqrt(mean_i E|z_i - z_bar|^2)`` for updates of unit noise, averaged over the steps of a cycle: 0 if all
    workers agree in every step, infinite if they never hear of each other.

    Args:
        matrices: column-stochastic ``[n, n]``, one for each step of a cycle: what follows its update; the identity
            where nothing does.
        mixes_before_update: models are mixed as they were before the update (adapt while communicate).
    """
    n = len(matrices[0])
    if n == 1:
        return 0.0
    steps = _debiased(matrices, mixes_before_update)
    covariance = _stationary(steps)
    if covariance is None:
        return math.inf
    variances = []
    for step in steps:
        covariance = step.advance(covariance)
        variances.append(np.trace(covariance) / n)
    return math.sqrt(max(0.0, float(np.mean(variances))))


@dataclass(frozen=True)
class _Step:
    """What a step does to deviations from the mean: ``C <- M (C + before) M^T + after``, ``[n, n]`` each.

    ``mix`` is None where nothing is mixed, which is most steps of local SGD.
    """

    mix: np.ndarray | None
    before: np.ndarray
    after: np.ndarray

    def advance(self, covariance: np.ndarray) -> np.ndarray:
        if self.mix is None:
            return covariance + self.before + self.after
        return self.mix @ (covariance + self.before) @ self.mix.T + self.after


def _debiased(matrices: Sequence[np.ndarray], mixes_before_update: bool) -> list[_Step]:
    """Return the steps of a cycle for de-biased models; an update lands on the numerator, so z moves by 1 / w of it."""
    n = len(matrices[0])
    weights = np.ones(n)
    if not all(np.allclose(matrix.sum(axis=1), 1, rtol=0, atol=1e-12) for matrix in matrices):
        cycle = np.eye(n)
        for matrix in matrices:
            cycle = matrix @ cycle
        for _ in range(_MOST_DOUBLINGS):  # the weights at the start of a cycle, once they have settled
            cycle = cycle @ cycle
        weights = cycle @ weights
    none = np.zeros((n, n))
    found = []
    for matrix in matrices:
        new = matrix @ weights
        idle = np.array_equal(matrix, np.eye(n))
        mix = None if idle else _centre(matrix * weights / new[:, None])
        if mixes_before_update:
            found.append(_Step(mix, none, _centre(np.diag(1 / new**2))))
        else:
            found.append(_Step(mix, _centre(np.diag(1 / weights**2)), none))
        weights = new
    return found


def _stationary(steps: Sequence[_Step]) -> np.ndarray | None:
    """Return the covariance at the start of a cycle, once it has settled; None if it grows for ever."""
    n = len(steps[0].before)
    phi, added = np.eye(n), np.zeros((n, n))
    for step in steps:
        phi, added = phi if step.mix is None else step.mix @ phi, step.advance(added)
    for _ in range(_MOST_DOUBLINGS):  # after j rounds the sum over 2^j cycles
        more = phi @ added @ phi.T
        added, phi = added + more, phi @ phi
        if np.trace(more) <= _SETTLED * np.trace(added):
            return added
    return None


def _centre(matrix: np.ndarray) -> np.ndarray:
    """Return ``(I - J) M (I - J)``: a covariance of deviations from the mean, or what a mixing does to them."""
    rows = matrix - matrix.mean(axis=0, keepdims=True)
    return rows - rows.mean(axis=1, keepdims=True)
