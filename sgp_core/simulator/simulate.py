"""The simulator: n virtual workers in one process, running the very rule objects that real workers run.

Every vector carries a leading axis of workers, ``[n, d]``; a rule's arithmetic acts on all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sgp_core.algorithms.base import Algorithm
from sgp_core.asynchronous.link_faults import LinkFaults
from sgp_core.compatibility import check_compatibility
from sgp_core.compression import Codec
from sgp_core.errors import ConfigurationError
from sgp_core.pacing import Pace
from sgp_core.pacing.graphs import graphs_of
from sgp_core.runtime.optimizers import update_reads_model
from sgp_core.runtime.scheduled_network import ScheduledNetwork
from sgp_core.runtime.worker_state import WorkerState
from sgp_core.simulator.asynchronous import run_in_turn
from sgp_core.simulator.compressed import SimulatedReplicas
from sgp_core.simulator.network import SimulatedNetwork
from sgp_core.simulator.trajectory import Gradient, OptimizerFactory, Trajectory
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.layout import TensorLayout
from sgp_core.topology import Topology


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
    link_faults: LinkFaults | None = None,
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
        ConfigurationError: the algorithm is not defined on this topology, cannot be compressed, or cannot do with links
            that have faults.
        ValueError: ``initial`` is not ``[world_size, d]``, or ``shapes`` do not make up d.
    """
    z = torch.as_tensor(initial).detach().clone().requires_grad_()
    n = topology.world_size
    _check(z, n, node_size, algorithm, link_faults)
    check_compatibility(algorithm, topology, pace=pace, compression=compression, node_size=node_size)
    if algorithm.traits.asynchronous:
        of_run = optimizer, steps, lr, seed, record_every, link_faults
        return run_in_turn(algorithm, topology, z.detach(), gradient, *of_run)
    graphs = graphs_of(topology, pace)
    stepper = _make_optimizer(optimizer, z, algorithm)
    references = None if compression is None else _replicas(compression, z.data, shapes, graphs, node_size)
    network = SimulatedNetwork(graphs, FlatVector([z.data]), references)
    paced = None if pace is None else ScheduledNetwork(network, pace, FlatVector([z.data]))
    worker = WorkerState(
        FlatVector([z.data]),
        stepper,
        paced or network,
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
            worker.update_reads_model = update_reads_model([stepper])
            algorithm.before_step(worker)
            stepper.step()
            algorithm.after_step(worker)
            algorithm.receive(worker)
            worker.step = step + 1
            algorithm.send_ahead(worker)
            if paced is not None and paced.estimate is not None and paced.estimate not in estimates[-1:]:
                estimates.append(paced.estimate)
            if worker.step % record_every == 0 or worker.step == steps:
                record()
    at, *recorded = zip(*records, strict=True)
    z_, w, x_in_flight, w_in_flight = map(torch.stack, recorded)
    return Trajectory(torch.tensor(at), z_, w, x_in_flight, w_in_flight, tuple(estimates), network.bytes_sent)


def _check(initial: Tensor, n: int, node_size: int, algorithm: Algorithm, link_faults: LinkFaults | None) -> None:
    if link_faults is not None:
        link_faults.check(algorithm)
    if initial.dim() != 2 or len(initial) != n:
        raise ValueError(f"initial must be [{n}, d] for a topology of {n} workers, not {list(initial.shape)}")
    if node_size < 1:
        raise ConfigurationError(f"node_size must be at least 1 worker, not {node_size}")


def _make_optimizer(make: OptimizerFactory | None, z: Tensor, algorithm: Algorithm) -> torch.optim.Optimizer:
    stepper = make([z]) if make else torch.optim.SGD([z], lr=0.1)
    for group in stepper.param_groups:
        algorithm.check_optimizer(group)
    return stepper


def _replicas(
    codec: Codec, x: Tensor, shapes: Sequence[Sequence[int]] | None, graphs: Topology, node_size: int
) -> SimulatedReplicas:
    """Return the replicas at both ends of every edge; all start as the first row of ``x``."""
    layout = TensorLayout.packed(shapes or [(x.shape[1],)], str(x.dtype).removeprefix("torch."))
    if layout.numel != x.shape[1]:
        raise ValueError(f"shapes make up {layout.numel} elements, initial has {x.shape[1]}")
    return SimulatedReplicas(codec, layout, x[0], graphs, node_size)
