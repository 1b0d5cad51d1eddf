"""What is known about a topology before any training: how fast it mixes, how well it averages noise, what it costs.

Everything is computed from the mixing matrices P(0), P(1), ... alone. Pi(t) = P(t-1) ... P(0) is what t steps of gossip
do to the numerators; the de-biased models are z = diag(Pi(t) 1)^-1 Pi(t) x, which is Pi(t) x where P is doubly
stochastic. J is the matrix of entries 1/n, the exact mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from sgp_core.topology.base import Topology
from sgp_core.topology.regions import Regions, messages_across

EXACT = 1e-12
"""||Pi - J|| below which the mean counts as exact."""

HORIZON = 64
"""Steps looked at where a topology has no period."""

_ROUND_OFF = 1e-10
"""Eigenvalues of a period's product below this are zero up to round-off."""

_LIMIT = 1 << 30
"""Steps after which a precision counts as never reached."""


@dataclass(frozen=True)
class Analysis:
    """The figures of one topology; steps are optimizer steps, weights and contractions are pure numbers.

    Attributes:
        period: steps until the graphs repeat; None for random ones, whose figures are measured over the first steps.
        column_stochastic, row_stochastic: over all steps looked at; both together: doubly stochastic.
        spectral_gap: 1 - |second largest eigenvalue| of a period's product, per step (its ``period``-th root).
        sigma_2: second largest singular value of one step's matrix, the largest over the steps.
        contraction_per_period: ||prod P - J||_2 over one period, of the de-biased models.
        contraction_per_step: its ``period``-th root.
        exact_in: steps until every worker holds the exact mean (to 1e-12), starting at step 0; None if never.
        steps_to: precision -> steps until ||Pi - J||_2 <= precision; None if never.
        effective_neighbors: gamma -> n_eff(gamma), see :func:`effective_neighbors`.
        kirchhoff_index, mean_resistance, algebraic_connectivity: of the undirected union of a period's graphs with
            resistances of 1; None where there is no period.
        messages_per_step: messages a worker sends per step, on average; ``busiest_messages``: most in any one step.
        messages_across: messages a step from one region to another, all workers together; None without regions.
        bytes_per_step: ``messages_per_step`` times the bytes of one model; None if those are not known.
    """

    name: str
    world_size: int
    period: int | None
    column_stochastic: bool
    row_stochastic: bool
    spectral_gap: float
    sigma_2: float
    contraction_per_period: float
    contraction_per_step: float
    exact_in: int | None
    steps_to: dict[float, int | None]
    effective_neighbors: dict[float, float]
    kirchhoff_index: float | None
    mean_resistance: float | None
    algebraic_connectivity: float | None
    messages_per_step: float
    busiest_messages: int
    messages_across: float | None
    bytes_per_step: float | None


def analyse(
    topology: Topology,
    *,
    model_bytes: int | None = None,
    precisions: tuple[float, ...] = (1e-2, 1e-4, 1e-8),
    gammas: tuple[float, ...] = (0.9, 0.99, 0.999),
) -> Analysis:
    """Return every figure of ``topology``; ``model_bytes`` is the size of one message.

    Cost: a few eigenvalue problems of size n, so n up to some hundreds takes seconds.
    """
    steps = topology.period or HORIZON
    matrices = [topology.mixing_matrix(step) for step in range(steps)]
    contraction = distance_to_mean(_chain(matrices))
    resistances = resistance(topology) if topology.period else (None, None, None)
    messages = messages_per_step(topology)
    return Analysis(
        name=topology.name,
        world_size=topology.world_size,
        period=topology.period,
        column_stochastic=is_stochastic(topology, axis=0),
        row_stochastic=is_stochastic(topology, axis=1),
        spectral_gap=spectral_gap(topology),
        sigma_2=max(map(sigma_2, matrices)),
        contraction_per_period=contraction,
        contraction_per_step=float(contraction ** (1 / steps)),
        exact_in=exact_in(topology),
        steps_to={precision: steps_to(topology, precision) for precision in precisions},
        effective_neighbors={gamma: effective_neighbors(topology, gamma) for gamma in gammas},
        kirchhoff_index=resistances[0],
        mean_resistance=resistances[1],
        algebraic_connectivity=resistances[2],
        messages_per_step=messages[0],
        busiest_messages=messages[1],
        messages_across=messages_across(topology, topology.region_sizes) if isinstance(topology, Regions) else None,
        bytes_per_step=None if model_bytes is None else messages[0] * model_bytes,
    )


def is_stochastic(topology: Topology, axis: int, tolerance: float = 1e-12) -> bool:
    """Whether the sums over ``axis`` are 1 at every step: axis 0 columns (mass is conserved), axis 1 rows."""
    steps = range(topology.period or HORIZON)
    return all(bool(np.all(np.abs(topology.mixing_matrix(s).sum(axis=axis) - 1) <= tolerance)) for s in steps)


def product(topology: Topology, steps: int, start: int = 0) -> np.ndarray:
    """Return P(start + steps - 1) ... P(start), ``[n, n]``."""
    return _chain([topology.mixing_matrix(step) for step in range(start, start + steps)], topology.world_size)


def distance_to_mean(matrix: np.ndarray) -> float:
    """Return ||D^-1 Pi - J||_2 with D = diag(Pi 1): the most that the de-biased models can differ from the mean.

    D is the identity for doubly stochastic ``matrix``; infinite where a worker holds no weight at all.
    """
    deviation = _deviation(matrix)
    return float("inf") if deviation is None else float(np.linalg.norm(deviation, ord=2))


def sigma_2(matrix: np.ndarray) -> float:
    """Return the second largest singular value of one step's matrix (0 for one worker)."""
    return float(np.linalg.svd(matrix, compute_uv=False)[1]) if len(matrix) > 1 else 0.0


def spectral_gap(topology: Topology) -> float:
    """Return 1 - |lambda_2|^(1/period), lambda_2 the second largest eigenvalue of one period's product in modulus.

    Without a period: 1 - the geometric mean contraction over the longest run of the first steps that is not yet exact.
    """
    if topology.world_size == 1:
        return 1.0
    if topology.period is None:
        run = [(t, distance_to_mean(pi)) for t, pi in islice(_products(topology), HORIZON)]
        inexact = [(t, distance) for t, distance in run if _ROUND_OFF < distance < np.inf]
        return 1 - inexact[-1][1] ** (1 / inexact[-1][0]) if inexact else 1.0
    moduli = np.sort(np.abs(np.linalg.eigvals(product(topology, topology.period))))
    second = 0.0 if moduli[-2] < _ROUND_OFF else float(moduli[-2])
    return 1 - second ** (1 / topology.period)


def exact_in(topology: Topology) -> int | None:
    """Return the steps, from step 0, until every worker holds the exact mean (to 1e-12); None if not in finite time.

    Looks two periods ahead, or n steps if that is more. Only a jump to the mean counts: a graph that creeps below 1e-12
    by contraction is not exact.
    """
    if topology.world_size == 1:
        return 0
    limit = max(2 * topology.period if topology.period else HORIZON, topology.world_size)
    before = 1.0
    for steps, pi in islice(_products(topology), limit):
        distance = _largest_deviation(pi)
        if distance < EXACT:
            return steps if before > 1e3 * EXACT else None
        before = distance
    return None


def steps_to(topology: Topology, precision: float) -> int | None:
    """Return the first t with ||Pi(t) - J||_2 <= ``precision``; None if it is never reached.

    With a period the powers of its product are searched by doubling and halving, so slow graphs cost no more.
    """
    if topology.world_size == 1:
        return 0
    if topology.period is None:
        run = islice(_products(topology), 100 * topology.world_size + HORIZON)
        return next((t for t, pi in run if distance_to_mean(pi) <= precision), None)
    squares = [product(topology, topology.period)]
    while distance_to_mean(squares[-1]) > precision:
        if topology.period << len(squares) > _LIMIT:
            return None
        squares.append(squares[-1] @ squares[-1])
    done, periods = np.eye(topology.world_size), 0
    for level in range(len(squares) - 2, -1, -1):  # the most whole periods that do not reach the precision
        longer = squares[level] @ done
        if distance_to_mean(longer) > precision:
            done, periods = longer, periods + (1 << level)
    for step in range(topology.period):
        done = topology.mixing_matrix(step) @ done
        if distance_to_mean(done) <= precision:
            return periods * topology.period + step + 1
    return (periods + 1) * topology.period


def effective_neighbors(topology: Topology, gamma: float) -> float:
    """Return n_eff(gamma): how many workers' worth of noise the topology averages away (Vogels et al., 2022).

    In the stationary random walk x <- P (sqrt(gamma) x + noise) with unit noise, n_eff = 1 / ((1 - gamma) mean var x),
    averaged over a period: 1 without communication, n on the complete graph. ``gamma`` in (0, 1) is the decay of old
    noise: near 1 for small learning rates.
    """
    n, steps = topology.world_size, topology.period or HORIZON
    matrices = [topology.mixing_matrix(step) for step in range(steps)]
    # over one period: C(next) = gamma^T Phi C Phi^T + Q with Phi the period's product, and Q what the noise adds
    added = np.zeros((n, n))
    for matrix in matrices:
        added = matrix @ (gamma * added + np.eye(n)) @ matrix.T
    covariance, phi, decay = added, _chain(matrices), gamma**steps
    while decay > 1e-18:  # doubling: after j rounds ``covariance`` is the sum of the first 2^j terms
        covariance = covariance + decay * phi @ covariance @ phi.T
        phi, decay = phi @ phi, decay * decay
    variances = []
    for matrix in matrices:
        covariance = matrix @ (gamma * covariance + np.eye(n)) @ matrix.T
        variances.append(np.trace(covariance) / n)
    return float(1 / ((1 - gamma) * np.mean(variances)))


def resistance(topology: Topology) -> tuple[float, float, float]:
    """Return (Kirchhoff index, mean resistance, algebraic connectivity) of the undirected union over a period.

    Kirchhoff index = n sum 1/mu_i over the non-zero Laplacian eigenvalues mu_i = the sum of the resistances between all
    pairs; mean resistance divides by the pairs; algebraic connectivity = the smallest mu_i. One worker: (0, 0, 0).
    """
    n = topology.world_size
    if n == 1:
        return 0.0, 0.0, 0.0
    union = np.zeros((n, n), dtype=bool)
    for step in range(topology.period or HORIZON):
        union |= topology.mixing_matrix(step) > 0
    union = (union | union.T) & ~np.eye(n, dtype=bool)
    mu = np.linalg.eigvalsh(np.diag(union.sum(axis=1)) - union.astype(float))[1:]
    if mu[0] < _ROUND_OFF:
        return float("inf"), float("inf"), 0.0
    kirchhoff = float(n * np.sum(1 / mu))
    return kirchhoff, kirchhoff / (n * (n - 1) / 2), float(mu[0])


def messages_per_step(topology: Topology) -> tuple[float, int]:
    """Return (mean over workers and steps, most by any worker in one step) of messages sent."""
    degrees = [[len(peers) for peers in topology.edges(step).out_peers] for step in range(topology.period or HORIZON)]
    return float(np.mean(degrees)), int(np.max(degrees))


def _deviation(matrix: np.ndarray) -> np.ndarray | None:
    """Return D^-1 Pi - J, or None where a worker holds no weight."""
    mass = matrix.sum(axis=1, keepdims=True)
    return None if (mass <= 0).any() else matrix / mass - 1 / len(matrix)


def _largest_deviation(matrix: np.ndarray) -> float:
    """Return the largest entry of D^-1 Pi - J: cheaper than its norm, and within a factor n of it."""
    deviation = _deviation(matrix)
    return float("inf") if deviation is None else float(np.abs(deviation).max())


def _chain(matrices: list[np.ndarray], n: int | None = None) -> np.ndarray:
    result = np.eye(len(matrices[0]) if n is None else n)
    for matrix in matrices:
        result = matrix @ result
    return result


def _products(topology: Topology) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (t, Pi(t)) for t = 1, 2, ..."""
    result, step = np.eye(topology.world_size), 0
    while True:
        result = topology.mixing_matrix(step) @ result
        step += 1
        yield step, result
