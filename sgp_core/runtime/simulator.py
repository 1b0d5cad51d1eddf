"""The simulator: n virtual workers in one process, running the very rule objects that real workers run.

Every vector carries a leading axis of workers, ``[n, d]``; a rule's arithmetic acts on all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sgp_core.algorithms.base import Algorithm
from sgp_core.flat import Flat, Scalar
from sgp_core.runtime.mixing import mix_
from sgp_core.runtime.one_by_one import run_in_turn
from sgp_core.runtime.trajectory import Gradient, OptimizerFactory, Trajectory
from sgp_core.runtime.worker import RuleWorker
from sgp_core.topology import Topology


class SimulatedNetwork:
    """Exchanges between virtual workers: rows of stacked tensors."""

    def __init__(self, topology: Topology, like: Flat) -> None:
        self.topology = topology
        self._plans: dict[int, _Plan] = {}
        self._in_flight: dict[int, tuple[Flat, Tensor]] = {}
        self._scratch = like.zeros_like()

    def mix(self, x: Flat, step: int, weight: Scalar | None = None) -> Scalar:
        """Replace row i by ``sum_j P_ij(step) x_j``; return the weights, ``[n, 1]``, mixed alike."""
        plan = self._plan(step)
        for tensor in x.tensors:
            plan.apply_(tensor)
        if weight is None:
            return 1.0
        assert isinstance(weight, Tensor)
        mixed = weight.clone()
        plan.apply_(mixed)
        return mixed

    def push(self, x: Flat, step: int, weight: Scalar) -> Scalar:
        """Keep copies for :meth:`pull`, and each worker's own share in place; return the weights kept, ``[n, 1]``."""
        assert isinstance(weight, Tensor)
        self._in_flight[step] = x.clone(), weight.clone()
        own = self._plan(step).own
        x.mul_(own)
        return weight * own

    def pull(self, x: Flat, step: int, weight: Scalar) -> Scalar:
        """Add the shares pushed at ``step``, if any were; return the weights with theirs added."""
        if step not in self._in_flight:
            return weight
        sent, weights = self._in_flight.pop(step)
        assert isinstance(weight, Tensor)
        total = weight.clone()
        arrived = torch.zeros_like(weight)
        for senders, share in self._plan(step).slots:
            for mine, theirs in zip(x.tensors, sent.tensors, strict=True):
                mix_(mine, 1.0, theirs[senders], share)
            mix_(arrived, 1.0, weights[senders], share)
        return total + arrived

    def drain(self, x: Flat, weight: Scalar) -> Scalar:
        """Pull everything that is in flight."""
        for step in sorted(self._in_flight):
            weight = self.pull(x, step, weight)
        return weight

    def in_flight(self) -> tuple[Tensor, Tensor]:
        """Return the sums of the numerators, ``[d]``, and of the weights, ``[]``, that have been sent and not added."""
        x = self._scratch.tensors[0].new_zeros(self._scratch.tensors[0].shape)
        w = torch.zeros(len(x), 1, dtype=torch.float64)
        for step, (sent, weights) in self._in_flight.items():
            for senders, share in self._plan(step).slots:
                mix_(x, 1.0, sent.tensors[0][senders], share)
                mix_(w, 1.0, weights[senders], share)
        return x.sum(0), w.sum()

    def scratch(self) -> Flat:
        """Return memory for rows of models."""
        return self._scratch

    def mean(self, x: Flat) -> None:
        """Replace every row by the average row."""
        for tensor in x.wire:
            tensor.copy_(tensor.mean(0, keepdim=True).expand_as(tensor))

    def _plan(self, step: int) -> _Plan:
        period = self.topology.period
        if period is None:
            return _Plan.of(self.topology, step)
        phase = step % period
        if phase not in self._plans:
            self._plans[phase] = _Plan.of(self.topology, phase)
        return self._plans[phase]


@dataclass(frozen=True)
class _Plan:
    """One step's graph as gathers: every worker's own weight, then per message slot its sender and weight."""

    own: Scalar
    slots: list[tuple[Tensor, Scalar]]

    @classmethod
    def of(cls, topology: Topology, step: int) -> _Plan:
        edges, n = topology.edges(step), topology.world_size
        senders = np.tile(np.arange(n), (edges.max_in_degree, 1))  # an empty slot receives one's own with weight 0
        weights = np.zeros((edges.max_in_degree, n))
        for i, (peers, shares) in enumerate(zip(edges.in_peers, edges.in_weights, strict=True)):
            senders[: len(peers), i] = peers
            weights[: len(peers), i] = shares
        slots = [(torch.from_numpy(s), _shared(w)) for s, w in zip(senders, weights, strict=True)]
        return cls(_shared(np.array(edges.own_weight)), slots)

    def apply_(self, x: Tensor) -> None:
        before = x.clone() if len(self.slots) > 1 else x
        own = self.own
        for senders, weight in self.slots:
            mix_(x, own, before[senders], weight)
            own = 1.0


def _shared(weights: np.ndarray) -> Scalar:
    """Return one number where all workers share it (so that arithmetic is that of a real worker), else ``[n, 1]``."""
    return float(weights[0]) if (weights == weights[0]).all() else torch.from_numpy(weights).unsqueeze(1)


def simulate(
    algorithm: Algorithm,
    topology: Topology,
    initial: Tensor | np.ndarray,
    gradient: Gradient,
    *,
    optimizer: OptimizerFactory | None = None,
    steps: int,
    lr: Callable[[int], float] | None = None,
    seed: int = 0,
    record_every: int = 1,
) -> Trajectory:
    """Run ``algorithm`` on ``topology`` with one virtual worker per row.

    Workers of an asynchronous algorithm take each step in turn, by rank, which is one of the orders that may happen;
    :func:`sgp_core.replay` runs one that did.

    Args:
        algorithm: the same object a real :class:`sgp_core.Gossip` takes; an outer-wrapped one included.
        topology: its ``world_size`` is n.
        initial: starting models, ``[n, d]``; not modified.
        gradient: maps ``z`` ``[n, d]`` and the step to gradients ``[n, d]``, row i that of worker i.
        optimizer: makes any element-wise torch optimizer over the stacked parameter; default plain SGD, lr 0.1.
        steps: optimizer steps.
        lr: learning rate at each step; default what the optimizer was made with.
        seed: seeds torch's generator for the run, without disturbing the caller's.
        record_every: steps between records.

    Returns:
        The recorded trajectory, start included.

    Raises:
        ConfigurationError: the algorithm is not defined on this topology.
        ValueError: ``initial`` is not ``[world_size, d]``.
    """
    z = torch.as_tensor(initial).detach().clone().requires_grad_()
    n = topology.world_size
    if z.dim() != 2 or len(z) != n:
        raise ValueError(f"initial must be [{n}, d] for a topology of {n} workers, not {list(z.shape)}")
    algorithm.check(topology)
    if algorithm.asynchronous:
        return run_in_turn(algorithm, topology, z.detach(), gradient, optimizer, steps, lr, seed, record_every)
    stepper = optimizer([z]) if optimizer else torch.optim.SGD([z], lr=0.1)
    network = SimulatedNetwork(topology, Flat([z.data]))
    worker = RuleWorker(
        Flat([z.data]),
        stepper,
        network,
        biased=algorithm.leaves_one(topology),
        weight=torch.ones(n, 1, dtype=torch.float64),
        grads=Flat([torch.zeros_like(z.data)]),
    )
    records: list[tuple[int, Tensor, Tensor, Tensor, Tensor]] = []

    def record() -> None:
        assert isinstance(worker.weight, Tensor)
        records.append((worker.step, z.data.clone(), worker.weight.squeeze(1).clone(), *network.in_flight()))

    record()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in range(steps):
            if lr is not None:
                for group in stepper.param_groups:
                    group["lr"] = lr(step)
            z.grad = gradient(z.detach(), step)
            worker.grads = Flat([z.grad])
            algorithm.on_gradients(worker)
            worker.averaged = False
            algorithm.before_step(worker)
            stepper.step()
            algorithm.after_step(worker)
            worker.step = step + 1
            if worker.step % record_every == 0 or worker.step == steps:
                record()
    at, *recorded = zip(*records, strict=True)
    return Trajectory(torch.tensor(at), *map(torch.stack, recorded))
