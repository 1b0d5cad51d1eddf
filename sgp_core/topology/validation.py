"""Checks that a graph can carry gossip, with messages that name the worker and the column at fault."""

from __future__ import annotations

from functools import reduce

import numpy as np

from sgp_core.errors import ConfigurationError
from sgp_core.topology.base import Topology

_STEPS = 64
"""Steps looked at when a topology has no period."""

_TOLERANCE = 1e-9
"""How far a column may be from 1: weights typed with ten digits pass, forgotten edges do not."""


def validate(topology: Topology, steps: int | None = None) -> None:
    """Check every graph of the first ``steps`` steps (default: one period, or 64 steps where there is none).

    Each mixing matrix must be finite, non-negative and column-stochastic, and its peers distinct and mutual. Over all
    steps together every worker must reach every other (the union is strongly connected) and the mixing must settle
    (the product is primitive: two workers that only swap their models never agree).

    Raises:
        ConfigurationError: names the topology, the step if there are several, and the worker or column at fault.
    """
    count = steps or topology.period or _STEPS
    matrices = []
    for step in range(count):
        where = f"topology '{topology.name}'" + (f" at step {step}" if count > 1 else "")
        _check_peers(topology, step, where)
        matrix = topology.mixing_matrix(step)
        check_matrix(matrix, topology.world_size, where)
        matrices.append(matrix > 0)
    check_mixing(matrices, f"topology '{topology.name}'")


def check_matrix(matrix: np.ndarray, world_size: int, where: str) -> None:
    """Check that ``matrix`` is ``[n, n]``, finite, non-negative and that its columns sum to 1."""
    if matrix.shape != (world_size, world_size):
        raise ConfigurationError(f"{where}: the mixing matrix is {matrix.shape}, not {(world_size, world_size)}")
    for fault, word in ((~np.isfinite(matrix), "a weight that is not a number"), (matrix < 0, "a negative weight")):
        if fault.any():
            sender, receiver = np.argwhere(fault.T)[0].tolist()
            edge = f"worker {sender} keeps" if sender == receiver else f"edge {sender} -> {receiver} has"
            raise ConfigurationError(f"{where}: {edge} {word}, {matrix[receiver, sender]:.6g}; weights are 0 or more")
    sums = matrix.sum(axis=0)
    wrong = np.flatnonzero(np.abs(sums - 1) > _TOLERANCE)
    if len(wrong):
        column = int(wrong[0])
        raise ConfigurationError(
            f"{where}: column {column} sums to {sums[column]:.6g}; what worker {column} keeps and sends must sum to 1"
        )


def check_mixing(patterns: list[np.ndarray], where: str) -> None:
    """Check boolean ``patterns`` (one ``[n, n]`` a step): the union strongly connected, the product primitive."""
    n = len(patterns[0])
    union = reduce(np.logical_or, patterns) | np.eye(n, dtype=bool)
    reach = _power(union, n)
    if not reach.all():
        sender, receiver = np.argwhere(~reach.T)[0].tolist()
        raise ConfigurationError(f"{where} is not connected: nothing of worker {sender} ever reaches worker {receiver}")
    product = reduce(lambda earlier, later: _chain(later, earlier), patterns)
    if not _power(product, n * n - 2 * n + 2).all():  # Wielandt's bound
        keeps_nothing = int(np.flatnonzero(~np.any([np.diag(p) for p in patterns], axis=0))[0])
        raise ConfigurationError(
            f"{where} only passes models round and never mixes them: let worker {keeps_nothing} keep a share"
        )


def _check_peers(topology: Topology, step: int, where: str) -> None:
    """Check what users of :meth:`Topology.out_neighbors` may rely on: distinct peers, in range, never oneself."""
    for rank in range(topology.world_size):
        peers = list(topology.out_neighbors(rank, step))
        for peer in peers:
            if peer == rank:
                raise ConfigurationError(f"{where}: worker {rank} lists itself as a peer")
            if not 0 <= peer < topology.world_size:
                raise ConfigurationError(f"{where}: worker {rank} sends to worker {peer}, which does not exist")
        if len(set(peers)) < len(peers):
            twice = next(peer for peer in peers if peers.count(peer) > 1)
            raise ConfigurationError(f"{where}: worker {rank} lists worker {twice} twice")


def _chain(later: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    return (later.astype(np.float32) @ earlier.astype(np.float32)) > 0


def _power(pattern: np.ndarray, exponent: int) -> np.ndarray:
    """Return where ``pattern ** exponent`` or any of its later doublings is non-zero (squaring past the exponent)."""
    reached = 1
    while reached < exponent:
        pattern, reached = _chain(pattern, pattern), 2 * reached
    return pattern
