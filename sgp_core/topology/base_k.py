"""Base-(k+1) graphs: the exact mean in finitely many steps for any number of workers and any degree k.

Takezawa et al., 2023, arXiv 2305.11420: the k-peer hyper-hypercube graph, the simple
Base-(k+1) graph and the Base-(k+1) graph, which takes the shorter of two ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from sgp_core.topology.base import TOPOLOGIES, MatrixTopology

Round = list[tuple[int, int, float]]
"""One step: undirected edges (a, b, weight); what a worker does not give away it keeps."""


@TOPOLOGIES.register("base_k")
@dataclass(frozen=True)
class BaseK(MatrixTopology):
    """A schedule of symmetric graphs of degree at most k = ``peers`` whose product over one period is exactly J.

    The period is at most 2 log_{k+1}(n) + 2 steps. Starting in the middle of a period is not exact.
    """

    peers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_whole("peers", at_least=1)

    @property
    def period(self) -> int:
        """Steps to the exact mean (at least 1)."""
        return max(len(self._rounds), 1)

    def mixing_matrix(self, step: int) -> np.ndarray:
        return matrix_of(self._rounds[step % self.period] if self._rounds else [], self.world_size)

    @property
    def is_doubly_stochastic(self) -> bool:
        return True

    @cached_property
    def _rounds(self) -> list[Round]:
        return base_rounds(range(self.world_size), self.peers)


def matrix_of(edges: Round, workers: int) -> np.ndarray:
    """Return the mixing matrix, ``[workers, workers]``, of a round: symmetric, so doubly stochastic."""
    matrix = np.eye(workers)
    for a, b, weight in edges:
        matrix[a, b] = matrix[b, a] = weight
        matrix[[a, b], [a, b]] -= weight
    return matrix


def base_rounds(workers: Sequence[int], k: int) -> list[Round]:
    """Return the Base-(k+1) schedule over ``workers``.

    With n = p q, p the largest divisor with prime factors of at most k + 1: either the simple schedule over all, or the
    simple schedule within p groups of q side by side, then a hyper-hypercube across the groups.
    """
    n = len(workers)
    p = _smooth_part(n, k + 1)
    q = n // p
    groups = [workers[g * q : (g + 1) * q] for g in range(p)]
    within = _side_by_side([simple_rounds(group, k) for group in groups])
    across = _side_by_side([hyper_hypercube_rounds([group[i] for group in groups], k) for i in range(q)])
    simple = simple_rounds(workers, k)
    return simple if len(simple) <= len(within) + len(across) else within + across


def simple_rounds(workers: Sequence[int], k: int) -> list[Round]:
    """Return the simple Base-(k+1) schedule over ``workers``.

    Write n in base k + 1 and cut the workers into parts, one a digit a_l: a_l blocks of (k+1)^{p_l}. Each part averages
    within itself; then part after part makes good with those behind it, by stars of one worker behind and one of each
    of the part's blocks, after which the part's mean is the global mean; last, each block averages within itself.
    """
    n = len(workers)
    if _smooth_part(n, k + 1) == n:
        return hyper_hypercube_rounds(workers, k)
    parts = _digits(n, k + 1)
    blocks: list[list[Sequence[int]]] = []
    start = 0
    for digit, size in parts:
        blocks.append([workers[start + a * size : start + (a + 1) * size] for a in range(digit)])
        start += digit * size

    members = [[worker for block in part for worker in block] for part in blocks]
    first = _side_by_side([hyper_hypercube_rounds(part, k) for part in members])
    schedules: list[list[Round]] = []
    for index, part in enumerate(blocks):
        behind = [worker for later in members[index + 1 :] for worker in later]
        waiting: list[Round] = [[] for _ in range(index)]
        if not behind:  # the last part holds the global mean once all before it have exchanged
            schedules.append(waiting)
            continue
        share = len(part[0]) / (len(members[index]) + len(behind))
        stars: Round = [(worker, block[i], share) for i, worker in enumerate(behind) for block in part]
        schedules.append([*waiting, stars, *_side_by_side([hyper_hypercube_rounds(block, k) for block in part])])
    return first + _side_by_side(schedules)


def hyper_hypercube_rounds(workers: Sequence[int], k: int) -> list[Round]:
    """Return the k-peer hyper-hypercube schedule: n = n_1 n_2 ... n_L with the fewest factors <= k + 1.

    In round l the workers whose mixed-radix digits differ in digit l only are completely connected.
    """
    rounds: list[Round] = []
    stride = 1
    for factor in _factors(len(workers), k + 1) or ():
        rounds.append(
            [
                (workers[i], workers[i + step * stride], 1 / factor)
                for i in range(len(workers))
                for step in range(1, factor - i // stride % factor)
            ]
        )
        stride *= factor
    return rounds


def _side_by_side(schedules: list[list[Round]]) -> list[Round]:
    """Run schedules over disjoint workers at the same time; the shorter ones idle at their end."""
    length = max(map(len, schedules), default=0)
    return [[edge for rounds in schedules if t < len(rounds) for edge in rounds[t]] for t in range(length)]


def _digits(n: int, base: int) -> list[tuple[int, int]]:
    """Return (digit, base^power) of the non-zero digits of ``n``, highest first."""
    digits, size = [], 1
    while n:
        n, digit = divmod(n, base)
        if digit:
            digits.append((digit, size))
        size *= base
    return digits[::-1]


def _smooth_part(n: int, bound: int) -> int:
    """Return the largest divisor of ``n`` whose prime factors are at most ``bound``."""
    part, rest = 1, n
    for factor in range(2, bound + 1):  # composite factors divide nothing that is left
        while rest % factor == 0:
            part, rest = part * factor, rest // factor
    return part


@cache
def _factors(n: int, bound: int) -> tuple[int, ...] | None:
    """Return the fewest factors, each in 2..bound, whose product is ``n``; None if there are none."""
    if n == 1:
        return ()
    best: tuple[int, ...] | None = None
    for factor in range(min(bound, n), 1, -1):
        rest = _factors(n // factor, bound) if n % factor == 0 else None
        if rest is not None and (best is None or len(rest) + 1 < len(best)):
            best = (factor, *rest)
    return best
