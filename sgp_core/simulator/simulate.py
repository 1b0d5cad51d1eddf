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
from sgp_core.runtime.optimizers import check_element_wise
from sgp_core.simulator.asynchronous import run_in_turn
from sgp_core.simulator.stacked_workers import StackedWorkers
from sgp_core.simulator.trajectory import Gradient, OptimizerFactory, Trajectory
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
    stepper = _make_optimizer(optimizer, z, algorithm)
    layout = None if compression is None else _layout(z.data, shapes)
    workers = StackedWorkers(
        algorithm,
        topology,
        z.data,
        stepper,
        pace=pace,
        compression=compression,
        layout=layout,
        node_size=node_size,
    )
    network, paced = workers.network, workers.paced
    records: list[tuple[int, Tensor, Tensor, Tensor, Tensor]] = []
    estimates: list[tuple[int, float]] = []

    def record() -> None:
        records.append((workers.worker.step, z.data.clone(), workers.weights.squeeze(1).clone(), *network.in_flight()))

    record()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in range(steps):
            if lr is not None:
                for group in stepper.param_groups:
                    group["lr"] = lr(step)
            of_workers = gradient(z.detach().repeat_interleave(node_size, dim=0), step)
            z.grad = of_workers.view(n, node_size, -1).mean(1)
            workers.take_gradients(z.grad)
            workers.step()
            if paced is not None and paced.estimate is not None and paced.estimate not in estimates[-1:]:
                estimates.append(paced.estimate)
            if (step + 1) % record_every == 0 or step + 1 == steps:
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
    check_element_wise(stepper)
    for group in stepper.param_groups:
        algorithm.check_optimizer(group)
    return stepper


def _layout(x: Tensor, shapes: Sequence[Sequence[int]] | None) -> TensorLayout:
    """Return what a row of ``x`` is made of."""
    layout = TensorLayout.packed(shapes or [(x.shape[1],)], str(x.dtype).removeprefix("torch."))
    if layout.numel != x.shape[1]:
        raise ValueError(f"shapes make up {layout.numel} elements, initial has {x.shape[1]}")
    return layout
