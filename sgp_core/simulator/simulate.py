"""The simulator: n virtual workers in one process, running the very rule objects that real workers run.

Every vector carries a leading axis of workers, ``[n, d]``; a rule's arithmetic acts on all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sgp_core.algorithms.base import Algorithm
from sgp_core.compatibility import check_compatibility
from sgp_core.compression import Codec
from sgp_core.errors import ConfigurationError
from sgp_core.pacing import Pace
from sgp_core.pacing.graphs import graphs_of
from sgp_core.runtime.scheduled_network import ScheduledNetwork
from sgp_core.runtime.worker_state import WorkerState
from sgp_core.simulator.asynchronous import run_in_turn
from sgp_core.simulator.compressed import SimulatedReplicas
from sgp_core.simulator.trajectory import Gradient, OptimizerFactory, Trajectory
from sgp_core.tensors.flat_vector import FlatVector, Scalar
from sgp_core.tensors.layout import TensorLayout
from sgp_core.tensors.mixing import mix_
from sgp_core.topology import Topology


class SimulatedNetwork:
    """Exchanges between virtual workers: rows of stacked tensors.

    Attributes:
        bytes_sent: by the mean worker, counted as real workers do; codes are counted as what they stand for.
    """

    def __init__(self, topology: Topology, like: FlatVector, references: SimulatedReplicas | None = None) -> None:
        self.topology = topology
        self._references = references
        self._plans: dict[int, _Plan] = {}
        self._in_flight: dict[int, tuple[FlatVector, Tensor]] = {}
        self._scratch = like.zeros_like()
        self.bytes_sent = 0.0

    def post(self, x: FlatVector, step: int, weight: Scalar | None = None) -> None:
        """Do nothing: what is mixed is there."""

    def mix(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Replace row i by ``sum_j P_ij(step) x_j``; return the weights, ``[n, 1]``, mixed alike."""
        self._count(x, self.topology, step, weighed=weight is not None)
        if self._references is not None:
            return self._references.mix(x, step, weight)
        plan = self._plan(step)
        for tensor in x.tensors:
            plan.apply_(tensor)
        if weight is None:
            return 1.0
        assert isinstance(weight, Tensor)
        mixed = weight.clone()
        plan.apply_(mixed)
        return mixed

    def push(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Keep copies for :meth:`pull`, and each worker's own share in place; return the weights kept, ``[n, 1]``."""
        assert isinstance(weight, Tensor)
        self._count(x, self.topology, step, weighed=True)
        if self._references is not None:
            return self._references.push(x, step, weight)
        self._in_flight[step] = x.clone(), weight.clone()
        own = self._plan(step).own
        x.mul_(own)
        return weight * own

    def pull(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Add the shares pushed at ``step``, if any were; return the weights with theirs added."""
        assert isinstance(weight, Tensor)
        if self._references is not None:
            return self._references.pull(x, step, weight)
        if step not in self._in_flight:
            return weight
        sent, weights = self._in_flight.pop(step)
        total = weight.clone()
        arrived = torch.zeros_like(weight)
        for senders, share in self._plan(step).slots:
            for mine, theirs in zip(x.tensors, sent.tensors, strict=True):
                mix_(mine, 1.0, theirs[senders], share)
            mix_(arrived, 1.0, weights[senders], share)
        return total + arrived

    def drain(self, x: FlatVector, weight: Scalar) -> Scalar:
        """Pull everything that is in flight."""
        for step in sorted(self._in_flight if self._references is None else self._references.in_flight):
            weight = self.pull(x, step, weight)
        return weight

    @property
    def ranks(self) -> list[int]:
        """All workers."""
        return list(range(self.topology.world_size))

    def share(self, tables: Tensor, step: int) -> Tensor:
        """Return what arrives when every worker sends its row of ``tables``, ``[n, ...]``: ``[peers, n, ...]``."""
        return torch.stack([tables[senders] for senders, _ in self._plan(step).slots] or [tables])

    def in_flight(self) -> tuple[Tensor, Tensor]:
        """Return the sums of the numerators, ``[d]``, and of the weights, ``[]``, that have been sent and not added."""
        x = self._scratch.tensors[0].new_zeros(self._scratch.tensors[0].shape)
        w = torch.zeros(len(x), 1, dtype=torch.float64)
        for gone, weights in (self._references.in_flight if self._references is not None else {}).values():
            x += gone
            w += weights
        for step, (sent, weights) in self._in_flight.items():
            for senders, share in self._plan(step).slots:
                mix_(x, 1.0, sent.tensors[0][senders], share)
                mix_(w, 1.0, weights[senders], share)
        return x.sum(0), w.sum()

    def scratch(self) -> FlatVector:
        """Return memory for rows of models."""
        return self._scratch

    def mean(self, x: FlatVector) -> None:
        """Replace every row by the average row."""
        n = self.topology.world_size
        self.bytes_sent += 2 * (n - 1) / n * x.nbytes / n
        for tensor in x.wire:
            tensor.copy_(tensor.mean(0, keepdim=True).expand_as(tensor))

    def mix_along(self, x: FlatVector, topology: Topology, step: int) -> None:
        """Replace row i by ``sum_j P_ij(step) x_j`` of another topology."""
        self._count(x, topology, step)
        plan = _Plan.of(topology, step)
        for tensor in x.tensors:
            plan.apply_(tensor)

    def swap(self, outgoing: Sequence[FlatVector], incoming: Sequence[FlatVector], step: int) -> None:
        """Set row i of ``incoming[s]`` to what the in-peer number s of i gives to i; to 0 where there is none."""
        in_peers = self.topology.edges(step).in_peers
        for vector in outgoing[:1]:
            self._count(vector, self.topology, step)
        for slot, vector in enumerate(incoming):
            vector.zero_()
            for receiver, peers in enumerate(in_peers):
                if slot >= len(peers):
                    continue
                sender = peers[slot]
                given = outgoing[in_peers[sender].index(receiver)]
                for mine, theirs in zip(vector.tensors, given.tensors, strict=True):
                    mine[receiver] = theirs[sender]

    def in_degree(self, step: int) -> int:
        """Return the largest number of in-peers."""
        return self.topology.edges(step).max_in_degree

    def own(self, values: np.ndarray) -> Scalar:
        """Return ``values`` as ``[n, 1]``."""
        return torch.from_numpy(np.array(values, dtype=np.float64)).unsqueeze(1)

    def _count(self, x: FlatVector, topology: Topology, step: int, weighed: bool = False) -> None:
        n = topology.world_size
        messages = sum(map(len, topology.edges(step).in_peers)) / n
        self.bytes_sent += messages * (x.nbytes / n + 8 * weighed)

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
    pace: Pace | None = None,
    seed: int = 0,
    record_every: int = 1,
    node_size: int = 1,
    compression: Codec | None = None,
    shapes: Sequence[Sequence[int]] | None = None,
) -> Trajectory:
    """Run ``algorithm`` on ``topology`` with one virtual worker per row, or one node of ``node_size`` workers.

    Workers of an asynchronous algorithm take each step in turn, by rank, which is one of the orders that may happen;
    :func:`sgp_core.replay` runs one that did.

    Args:
        algorithm: the same object a real :class:`sgp_core.Gossip` takes; an outer-wrapped one included.
        topology: its ``world_size`` is n.
        initial: starting models, ``[n, d]``; not modified.
        gradient: maps ``z`` ``[n, d]`` and the step to gradients ``[n, d]``, row i that of worker i; both have
            ``n * node_size`` rows where nodes have several workers, those of one node in a row.
        optimizer: makes any element-wise torch optimizer over the stacked parameter; default plain SGD, lr 0.1.
        steps: optimizer steps.
        lr: learning rate at each step; default what the optimizer was made with.
        pace: what follows each step; default a round of gossip.
        seed: seeds torch's generator for the run, without disturbing the caller's.
        record_every: steps between records.
        node_size: workers of a node, which share a model and average their gradients; the topology is one of nodes.
        compression: how messages are coded, such as ``build_compression("int8")``; None: not at all.
        shapes: what a row is made of, for codecs that see matrices; None: one vector. Real workers lay their
            parameters out last first.

    Returns:
        The recorded trajectory, start included.

    Raises:
        ConfigurationError: the algorithm is not defined on this topology, or cannot be compressed.
        ValueError: ``initial`` is not ``[world_size, d]``, or ``shapes`` do not make up d.
    """
    z = torch.as_tensor(initial).detach().clone().requires_grad_()
    n = topology.world_size
    if z.dim() != 2 or len(z) != n:
        raise ValueError(f"initial must be [{n}, d] for a topology of {n} workers, not {list(z.shape)}")
    if node_size < 1:
        raise ConfigurationError(f"node_size must be at least 1 worker, not {node_size}")
    check_compatibility(algorithm, topology, pace=pace, compression=compression, node_size=node_size)
    if algorithm.traits.asynchronous:
        return run_in_turn(algorithm, topology, z.detach(), gradient, optimizer, steps, lr, seed, record_every)
    graphs = graphs_of(topology, pace)
    stepper = optimizer([z]) if optimizer else torch.optim.SGD([z], lr=0.1)
    for group in stepper.param_groups:
        algorithm.check_optimizer(group)
    references = None
    if compression is not None:
        memory = TensorLayout.packed(shapes or [(z.shape[1],)], str(z.dtype).removeprefix("torch."))
        if memory.numel != z.shape[1]:
            raise ValueError(f"shapes make up {memory.numel} elements, initial has {z.shape[1]}")
        references = SimulatedReplicas(compression, memory, z.data[0], graphs, node_size)
    network = SimulatedNetwork(graphs, FlatVector([z.data]), references)
    paced = None if pace is None else ScheduledNetwork(network, pace, FlatVector([z.data]))
    worker = WorkerState(
        FlatVector([z.data]),
        stepper,
        network if paced is None else paced,
        biased=algorithm.leaves_one(graphs),
        weight=torch.ones(n, 1, dtype=torch.float64),
        grads=FlatVector([torch.zeros_like(z.data)]),
    )
    records: list[tuple[int, Tensor, Tensor, Tensor, Tensor]] = []

    estimates: list[tuple[int, float]] = []

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
            of_workers = gradient(z.detach().repeat_interleave(node_size, dim=0), step)
            z.grad = of_workers.view(n, node_size, -1).mean(1)
            worker.grads = FlatVector([z.grad])
            algorithm.on_gradients(worker)
            worker.averaged = False
            algorithm.before_step(worker)
            stepper.step()
            algorithm.after_step(worker)
            algorithm.receive(worker)
            worker.step = step + 1
            if paced is not None and paced.estimate is not None and paced.estimate not in estimates[-1:]:
                estimates.append(paced.estimate)
            if worker.step % record_every == 0 or worker.step == steps:
                record()
    at, *recorded = zip(*records, strict=True)
    z_, w, x_in_flight, w_in_flight = map(torch.stack, recorded)
    return Trajectory(torch.tensor(at), z_, w, x_in_flight, w_in_flight, tuple(estimates), network.bytes_sent)
