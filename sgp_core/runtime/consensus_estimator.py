"""Estimates of the consensus distance, from a few numbers per model that travel along with the models."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sgp_core.runtime.random_projection import WIDTH, RandomProjection, distance
from sgp_core.tensors.flat_vector import FlatVector, Scalar
from sgp_core.topology import Topology


class SketchNetwork(Protocol):
    """What the estimator asks of a network."""

    topology: Topology

    @property
    def ranks(self) -> list[int]:
        """The workers that this process is: one of its own, or in the simulator all of them."""

    def share(self, tables: Tensor, step: int) -> Tensor:
        """Send ``tables``, ``[ranks, ...]``, along the edges of ``step``; return ``[peers, ranks, ...]``."""


class ShardGroup(Protocol):
    """What the estimator asks of a node: workers that hold the shards of one model."""

    size: int
    place: int

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over the node."""

    def add_up(self, values: Tensor) -> Tensor:
        """Return the sum over the node, counted among what training sends."""


class ConsensusEstimator:
    """Estimates the consensus distance in waves. All workers project their models at one step, and the projections
    spread along the edges of the following graphs, beside the models where these travel too, until all workers have
    all projections.

    All workers thus arrive at the same estimate, bit for bit, and can act on it together, without a collective. It is
    as old as its wave was long: ``log2 n`` exchanges on exponential graphs. While a wave spreads it costs
    ``8 n (WIDTH + 2)`` bytes per message.

    Args:
        network: how projections travel.
        like: a vector of the model's layout.
        node: whose workers hold a shard each, of which ``like`` is one; when a wave begins their projections are
            summed, and are then the node's.
    """

    def __init__(self, network: SketchNetwork, like: FlatVector, node: ShardGroup | None = None) -> None:
        self._network = network
        self._node = node if node is not None and node.size > 1 else None
        self._sketch = RandomProjection(like, self._begins(like))
        self._device = like.tensors[0].device  # where a process group takes messages from
        self._tables = torch.zeros(0, device=self._device)
        self._begun = 0
        self._known: np.ndarray | None = None
        self.latest: tuple[int, float] | None = None
        """The step and the distance of the last wave that has arrived."""

    @property
    def idle(self) -> bool:
        """Whether no wave is spreading."""
        return self._known is None

    def begin(self, x: FlatVector, weight: Scalar | None, step: int) -> None:
        """Project the models as they are after ``step``: numerators ``x`` with these weights, None for 1."""
        n, ranks = self._network.topology.world_size, self._network.ranks
        sketch, square = self._sketch.of(x)
        if self._node is not None:
            summed = self._node.add_up(torch.cat([sketch, square.reshape(1)]))
            sketch, square = summed[:-1], summed[-1]
        weights = torch.as_tensor(1.0 if weight is None else weight, dtype=torch.float64).reshape(-1)
        self._tables = torch.zeros(len(ranks), n, WIDTH + 2, dtype=torch.float64, device=self._device)
        for row, (rank, w) in enumerate(zip(ranks, weights.expand(len(ranks)), strict=True)):
            self._tables[row, rank, 0] = 1.0
            self._tables[row, rank, 1] = square.reshape(-1)[row] / w.square()
            self._tables[row, rank, 2:] = sketch.reshape(-1, WIDTH)[row] / w
        self._begun = step
        self._known = np.eye(n, dtype=bool)

    def _begins(self, like: FlatVector) -> list[int] | None:
        """Return where this worker's shard begins in every piece of the model. Workers of a node ask together."""
        if self._node is None:
            return None
        sizes = torch.zeros(self._node.size, len(like.tensors), dtype=torch.int64, device=like.tensors[0].device)
        for number, tensor in enumerate(like.tensors):
            sizes[self._node.place, number] = tensor.numel()
        return [int(before) for before in self._node.total(sizes)[: self._node.place].sum(0)]

    def abandon(self) -> None:
        """Give up the current wave: the models that it measures are gone."""
        self._known = None

    def carry(self, graph: int) -> float | None:
        """Spread projections along the edges of a graph; return the distance once all workers have all of them."""
        if self._known is None:
            return None
        for arrived in self._network.share(self._tables, graph):
            new = (self._tables[..., :1] == 0) & (arrived[..., :1] != 0)
            self._tables = torch.where(new, arrived, self._tables)
        self._known = _spread(self._known, self._network.topology, graph)
        if not self._known.all():
            return None
        self._known = None
        found = distance(self._tables[0, :, 2:], self._tables[0, :, 1])
        self.latest = (self._begun, found)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return what is under way."""
        known = None if self._known is None else torch.from_numpy(self._known.copy())
        return {"known": known, "begun": self._begun, "tables": self._tables.clone(), "latest": self.latest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self._known = None if state["known"] is None else state["known"].numpy().copy()
        self._begun, self._tables = int(state["begun"]), state["tables"].to(self._device, copy=True)
        latest = state["latest"]
        self.latest = None if latest is None else (int(latest[0]), float(latest[1]))


def _spread(known: np.ndarray, topology: Topology, graph: int) -> np.ndarray:
    """Return which workers have whose projections, ``[n, n]``, after one exchange; every worker keeps this table."""
    heard = known.copy()
    for rank, peers in enumerate(topology.edges(graph).in_peers):
        for peer in peers:
            heard[rank] |= known[peer]
    return heard
