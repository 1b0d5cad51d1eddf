"""PushSum averaging as a tool of its own: the mean of tensors over workers by gossip, on processes or simulated.

Worker i holds a value v_i and a weight c_i. With x_i = c_i v_i and w_i = c_i at first, a round replaces both by their
mixed values, x <- P x and w <- P w; columns of P sum to 1, so sum x and sum w never change, and x_i / w_i of every
worker tends to sum c_j v_j / sum c_j on any graph, directed ones included (Kempe, Dobra and Gehrke, FOCS 2003).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from sgp_core.distributed.collectives import Collectives
from sgp_core.distributed.node_group import NodeGroup
from sgp_core.errors import ConfigurationError
from sgp_core.runtime.accelerated_rounds import AcceleratedRounds
from sgp_core.runtime.choices import TopologyChoice, topology_of
from sgp_core.runtime.global_collectives import GlobalCollectives
from sgp_core.runtime.network import DistributedNetwork
from sgp_core.runtime.random_projection import WIDTH, RandomProjection
from sgp_core.simulator.network import SimulatedNetwork
from sgp_core.tensors.flat_vector import FlatVector, Scalar
from sgp_core.topology import Topology, build_topology
from sgp_core.transports.select import place_model

Values = TypeVar("Values")
"""A tensor, or a list, tuple or dict of tensors, nested or not."""

_USUAL_TOLERANCE = 1e-6
_FILTERS = ("plain", "chebyshev")
_SKETCH_ERROR = 1.1
"""Distances of long vectors are measured in a random projection, a few percent off: so much more is presumed."""


@dataclass(frozen=True)
class Average:
    """What averaging has come to on this worker; simulated, on all of them.

    Attributes:
        value: the estimate of the average, of the structure, shapes and dtypes of what was given.
        rounds: of gossip that were used, the same on every worker.
        distance: the largest ``||z_i - z_bar||`` of any worker i, over the root mean square of the norms of what the
            workers gave; the same number on every worker. None where there is no tolerance. Vectors of more than 512
            elements are measured in a random projection.
        bytes_sent: by this worker; simulated, by the mean worker.
    """

    value: Any
    rounds: int
    distance: float | None
    bytes_sent: float


@dataclass(frozen=True)
class _Stop:
    """When to stop: after so many rounds, or within a tolerance."""

    rounds: int | None
    tolerance: float
    most: int
    accelerate: bool
    long: bool

    def is_reached(self, distance: float) -> bool:
        return distance * (_SKETCH_ERROR if self.long else 1.0) <= self.tolerance


@torch.no_grad()
def average(
    values: Values,
    *,
    topology: TopologyChoice = "one_peer_exponential",
    weight: float = 1.0,
    rounds: int | None = None,
    tolerance: float | None = None,
    max_rounds: int = 10_000,
    filter: str = "plain",
    process_group: dist.ProcessGroup | None = None,
    transport: str = "p2p",
) -> Average:
    """Average tensors over the workers of a process group by gossip. Every worker must call.

    Messages go from worker to worker, so nothing else may use the group meanwhile; a :class:`Gossip` whose models
    travel between steps needs a group of its own.

    Args:
        values: a floating-point tensor, or a list, tuple or dict of some; alike in shape and dtype on all workers, of
            one device. Not modified.
        topology: who sends to whom: a name, a class, a networkx graph or what ``build_topology`` returned.
        weight: how much this worker counts, 0 or more; not 0 on all.
        rounds: of gossip. None: until all workers are within ``tolerance``.
        tolerance: how far any worker's estimate may be from the average, as :attr:`Average.distance` measures it;
            default 1e-6, or what the dtype can hold. Workers agree on it by two small collectives, at growing
            intervals, so up to a quarter more rounds may be used than needed.
        max_rounds: after so many rounds without reaching the tolerance, give up.
        filter: ``"chebyshev"`` accelerates rounds of symmetric graphs that never change, see
            :mod:`sgp_core.topology.chebyshev`; for equal weights.
        process_group: None for the default one; without torch.distributed, a world of one.
        transport: how messages travel, as for :class:`Gossip`.

    Raises:
        ConfigurationError: on all workers alike: the workers' arguments differ or are out of range.
        RuntimeError: ``max_rounds`` do not reach the tolerance.
        PeerLost: another worker is gone.
    """
    leaves, structure = _leaves(values)
    stop = _read(rounds, tolerance, max_rounds, filter, leaves, sum(leaf.numel() for leaf in leaves))
    holder = nn.ParameterList([nn.Parameter(leaf.detach().clone()) for leaf in leaves])
    parameters, device = list(holder), leaves[0].device
    node = NodeGroup(process_group, 1, device)
    graph = topology_of("one_peer_exponential" if topology is None else topology, node)
    alike: dict[str, object] = {"shape or dtype": [(leaf.shape, leaf.dtype) for leaf in leaves], "stopping rule": stop}
    alike |= {"topology": (graph, graph.edges(0).out_peers), "transport": transport}
    GlobalCollectives(node).check_alike(nn.Module(), device, alike)
    collectives = Collectives(process_group)
    weights = torch.zeros(collectives.size, dtype=torch.float64, device=device)
    weights[collectives.rank] = weight
    unequal = _check_weights(collectives.total(weights).tolist(), stop.accelerate)
    shard, carrier = place_model(holder, parameters, transport, node, 0)
    if carrier is None:
        alone = [parameter.detach().clone() for parameter in parameters]
        return Average(tree_unflatten(alone, structure), 0, None if rounds is not None else 0.0, 0)
    network = DistributedNetwork(graph, process_group, carrier)
    x = shard.flat
    projection = RandomProjection(x)
    size = collectives.total(weight * projection.of(x)[1].view(1)) / weights.sum()

    def measure(w: Scalar | None) -> float:
        sketch, _ = projection.of(x)
        own = sketch.new_tensor([1.0 if w is None else float(w)])
        total = collectives.total(torch.cat([sketch, own]))
        return float(collectives.maximum(_distance(sketch / own, total[:-1] / total[-1], size).view(1)))

    own: Scalar | None = float(weight) if unequal or not graph.is_doubly_stochastic else None
    if own is not None:
        x.mul_(own)
    try:
        used, own, distance = _run(network, graph, x, own, stop, measure)
        if own is not None:
            x.div_(own)
        sent = network.bytes_sent
        estimate = [parameter.detach().clone() for parameter in parameters]
    finally:
        network.close()
    return Average(tree_unflatten(estimate, structure), used, distance, sent)


@torch.no_grad()
def average_simulated(
    stacked: Values,
    *,
    topology: Topology | str = "one_peer_exponential",
    weights: Sequence[float] | None = None,
    rounds: int | None = None,
    tolerance: float | None = None,
    max_rounds: int = 10_000,
    filter: str = "plain",
) -> Average:
    """Do what :func:`average` does, for n virtual workers in this process, with the same numbers.

    Args:
        stacked: tensors ``[n, ...]``, row i that of worker i; a list, tuple or dict of some. Not modified.
        topology: a name, or over n workers.
        weights: how much each worker counts, ``[n]``; None: all alike.
        rounds, tolerance, max_rounds, filter: as for :func:`average`.

    Raises:
        ConfigurationError: arguments differ in n or are out of range.
        RuntimeError: ``max_rounds`` do not reach the tolerance.
    """
    leaves, structure = _leaves(stacked)
    n = len(leaves[0]) if leaves[0].dim() else 0
    if n < 1 or any(leaf.dim() == 0 or len(leaf) != n for leaf in leaves):
        raise ConfigurationError("average_simulated: every tensor has one row a worker, [n, ...], the same n")
    stop = _read(rounds, tolerance, max_rounds, filter, leaves, sum(leaf[0].numel() for leaf in leaves))
    graph = build_topology(topology, n)
    if weights is not None and len(weights) != n:
        raise ConfigurationError(f"average_simulated: weights are {n} numbers, one a worker, not {len(weights)}")
    counts = torch.tensor([1.0] * n if weights is None else list(weights), dtype=torch.float64).unsqueeze(1)
    unequal = _check_weights(counts.flatten().tolist(), stop.accelerate)
    kinds = list(dict.fromkeys((leaf.dtype, leaf.device) for leaf in leaves[::-1]))  # as real workers lay them out
    orders = [[at for at in reversed(range(len(leaves))) if (leaves[at].dtype, leaves[at].device) == k] for k in kinds]
    x = FlatVector([torch.cat([leaves[at].reshape(n, -1) for at in order], dim=1) for order in orders])
    network, projection = SimulatedNetwork(graph, x), RandomProjection(x)
    size = (counts.squeeze(1) * projection.of(x)[1]).sum() / counts.sum()

    def measure(w: Scalar | None) -> float:
        held = torch.ones_like(counts) if w is None else torch.as_tensor(w)
        sketches, _ = projection.of(x)
        return float(_distance(sketches / held, sketches.sum(0) / held.sum(), size).max())

    own: Scalar | None = None
    if unequal or not graph.is_doubly_stochastic:
        own = counts
        x.mul_(own)
    used, own, distance = _run(network, graph, x, own, stop, measure)
    if own is not None:
        x.div_(own)
    estimate = list(leaves)
    for piece, order in zip(x.tensors, orders, strict=True):
        parts = piece.split([leaves[at][0].numel() for at in order], dim=1)
        for at, part in zip(order, parts, strict=True):
            estimate[at] = part.reshape(leaves[at].shape).clone()
    return Average(tree_unflatten(estimate, structure), used, distance, network.bytes_sent)


def _run(
    network: DistributedNetwork | SimulatedNetwork,
    graph: Topology,
    x: FlatVector,
    weight: Scalar | None,
    stop: _Stop,
    measure: Callable[[Scalar | None], float],
) -> tuple[int, Scalar | None, float | None]:
    """Gossip until it is enough; return the rounds, the weight, and the distance if it was measured."""
    accelerated = AcceleratedRounds(graph) if stop.accelerate else None
    if accelerated is not None:
        accelerated.begin()
    period = graph.period or max(1, (graph.world_size - 1).bit_length())
    done, look = 0, period
    while True:
        for step in range(done, min(look, stop.most) if stop.rounds is None else stop.rounds):
            if accelerated is not None:
                accelerated.once(x, partial(network.mix, x, step))
                continue
            mixed = network.mix(x, step, weight)
            weight = None if weight is None else mixed
        if stop.rounds is not None:
            return stop.rounds, weight, None
        done = min(look, stop.most)
        distance = measure(weight)
        if stop.is_reached(distance):
            return done, weight, distance
        if done == stop.most:
            raise RuntimeError(
                f"averaging has not reached the tolerance of {stop.tolerance:g} in {done} rounds: a worker is"
                f" {distance:.2g} away; give it more max_rounds, a topology that mixes faster, or a finer dtype"
            )
        look = done + max(period, done // 4 // period * period)


def _distance(sketches: Tensor, mean: Tensor, size: Tensor) -> Tensor:
    """Return the distance of each sketch, ``[..., WIDTH]``, from the mean's, over the root of ``size``.

    It is infinite for a worker without weight, whose estimate is 0 / 0.

    Raises:
        RuntimeError: the mean is not finite, on all workers alike.
    """
    if not bool(mean.isfinite().all()):
        raise RuntimeError("a value that is to be averaged is not finite, on one worker at least")
    off = (sketches - mean).norm(dim=-1) / size.sqrt().clamp_min(1e-300)
    return torch.where(off.isnan(), math.inf, off)


def _leaves(values: Any) -> tuple[list[Tensor], Any]:
    leaves, structure = tree_flatten(values)
    if not leaves or not all(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in leaves):
        raise ConfigurationError("average takes floating-point tensors: one, or a list, tuple or dict of some")
    if len({leaf.device for leaf in leaves}) > 1:
        raise ConfigurationError("average takes tensors of one device")
    return leaves, structure


def _read(
    rounds: int | None, tolerance: float | None, most: int, filter: str, leaves: Sequence[Tensor], length: int
) -> _Stop:
    """Return when to stop, as the arguments say it."""
    if filter not in _FILTERS:
        raise ConfigurationError(f"average has no filter '{filter}'; known: {', '.join(_FILTERS)}")
    if rounds is not None and tolerance is not None:
        raise ConfigurationError("average takes rounds or a tolerance, not both")
    if rounds is not None and rounds < 0:
        raise ConfigurationError(f"rounds must be 0 or more, not {rounds}")
    if most < 1:
        raise ConfigurationError(f"max_rounds must be at least 1, not {most}")
    if tolerance is None:
        tolerance = max(_USUAL_TOLERANCE, *(10 * torch.finfo(leaf.dtype).eps for leaf in leaves))
    if not 0 < tolerance < math.inf:
        raise ConfigurationError(f"tolerance must be positive, not {tolerance}")
    return _Stop(rounds, tolerance, most, filter == "chebyshev", length > WIDTH)


def _check_weights(weights: Sequence[float], accelerate: bool) -> bool:
    """Return whether weights differ from 1; refuse those that cannot be."""
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        given = ", ".join(f"{weight:g}" for weight in weights[:16])
        raise ConfigurationError(f"weights are finite and 0 or more, and not all 0, not {given}")
    unequal = any(weight != 1 for weight in weights)
    if unequal and accelerate:
        raise ConfigurationError("filter='chebyshev' averages workers that count alike; leave weights at 1")
    return unequal
