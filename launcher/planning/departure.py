"""How far a candidate departs from AllReduce's trajectory, before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from sgp_core.algorithms import Algorithm
from sgp_core.algorithms.base import Outer
from sgp_core.algorithms.diloco import DiLoCo
from sgp_core.algorithms.gossip_pga import GossipPGA
from sgp_core.algorithms.local_sgd import LocalSGD
from sgp_core.algorithms.noloco import NoLoCo
from sgp_core.pacing import Pace
from sgp_core.topology import Topology
from sgp_core.topology.spread import spread
from sgp_core.training.experiment import ExperimentParts

MOST_SPREAD = 1.5
"""The largest spread that goes as like AllReduce unless the user says else; docs/plan.md says why."""
_LONGEST_CYCLE = 128
_HORIZON = 32
"""Steps looked at where a topology has no period."""


def distance_of(parts: ExperimentParts) -> float:
    """Return how far apart workers stay under a rule, in updates; see :func:`sgp_core.topology.spread.spread`.

    What a codec leaves out is not in it, nor that messages of asynchronous rules are late: both only add to it. Of a
    model that is averaged in fragments, this is the distance of any one of them.
    """
    algorithm = parts.algorithm
    cycle = _cycle(algorithm, parts.topology, parts.pace)
    return spread(cycle, mixes_before_update=algorithm.traits.sends_ahead or algorithm.traits.steps_in_flight > 0)


def changes_of(parts: ExperimentParts) -> list[str]:
    """Return what else a candidate changes beside the distance of models: codec, outer, waiting for no one."""
    found = []
    if parts.compression is not None or (isinstance(parts.algorithm, DiLoCo) and parts.algorithm.codec is not None):
        found.append("compressed")
    if isinstance(parts.algorithm, Outer):
        found.append("outer")
    if parts.algorithm.traits.asynchronous:
        found.append("asynchronous")
    return found


def _cycle(algorithm: Algorithm, topology: Topology, pace: Pace) -> list[np.ndarray]:
    """Return what follows each step of a cycle, as mixing matrices."""
    rounds = _rounds(algorithm, topology, pace)
    length = _cycle_length(algorithm, topology, pace)
    return [next(rounds) for _ in range(length)]


def _cycle_length(algorithm: Algorithm, topology: Topology, pace: Pace) -> int:
    base = algorithm.base if isinstance(algorithm, Outer) else algorithm
    lengths = [topology.period or _HORIZON] if base.traits.gossips or base.traits.asynchronous else [1]
    if base.traits.gossips:
        lengths.append(int(getattr(pace, "steps", 1)) * (topology.period or _HORIZON))
    lengths += [int(getattr(base, "period", 0) or 1), algorithm.tau if isinstance(algorithm, Outer) else 1]
    if isinstance(algorithm, Outer):
        return algorithm.tau * (_HORIZON if isinstance(algorithm, NoLoCo) else 1)
    return min(math.lcm(*lengths), max(_LONGEST_CYCLE, *lengths))


def _rounds(algorithm: Algorithm, topology: Topology, pace: Pace) -> Iterator[np.ndarray]:
    """Yield what follows step 0, 1, ...: an exact average, rounds of gossip, or nothing."""
    base = algorithm.base if isinstance(algorithm, Outer) else algorithm
    n = topology.world_size
    mean, nothing = np.full((n, n), 1 / n), np.eye(n)
    done, step = 0, 0
    while True:
        mix = nothing
        if base.traits.gossips:
            for _ in range(pace.plan(step + pace.warmup_steps, {}).rounds):
                mix = topology.mixing_matrix(done) @ mix
                done += 1
        elif base.traits.asynchronous:
            mix = topology.mixing_matrix(step)
        elif not isinstance(base, LocalSGD):
            mix = mean  # the gradients are averaged: all models stay equal
        period = base.period if isinstance(base, LocalSGD | GossipPGA) else 0
        if period and (step + 1) % period == 0:
            mix = mean
        if isinstance(algorithm, Outer) and (step + 1) % algorithm.tau == 0:
            kept = algorithm.kept if isinstance(algorithm, DiLoCo) else 0.0
            mix = _pairs(n, step) @ mix if isinstance(algorithm, NoLoCo) else kept * mix + (1 - kept) * mean
        yield mix
        step += 1


def _pairs(n: int, step: int) -> np.ndarray:
    """Return the average of random pairs; with an odd number one worker is by itself."""
    order = np.random.default_rng(step).permutation(n)
    matrix = np.eye(n)
    for one, other in zip(order[0 : n - 1 : 2], order[1:n:2], strict=False):
        matrix[np.ix_([one, other], [one, other])] = 0.5
    return matrix
