"""What ``Gossip`` asks of all workers, over an elastic group in place of a process group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sgp_core.algorithms.worker import Worker
from sgp_core.distributed.comm_stats import CommunicationStats
from sgp_core.distributed.model_shard import ModelShard
from sgp_core.distributed.node_group import NodeGroup
from sgp_core.elastic.group import ElasticGroup
from sgp_core.elastic.network import ElasticNetwork
from sgp_core.errors import ConfigurationError
from sgp_core.runtime.global_collectives import GlobalCollectives, fingerprints
from sgp_core.tensors.flat_vector import FlatVector


class ElasticNode(NodeGroup):
    """A node of one worker, which is a member of an elastic group."""

    def __init__(self, group: ElasticGroup) -> None:
        CommunicationStats.__init__(self)
        self.size, self.count = 1, group.world_size
        self.number, self.place = group.rank, 0
        self.ranks = [group.rank]
        self.peers = None
        self._inside = None
        self._buffers = {}


class ElasticCollectives(GlobalCollectives):
    """Collectives over the members that live; see :class:`GlobalCollectives`. All get the same, whoever dies."""

    def __init__(self, group: ElasticGroup) -> None:
        super().__init__(ElasticNode(group))
        self._group = group

    @property
    def size(self) -> int:
        """Number of workers at the beginning."""
        return self._group.world_size

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of a small tensor over all members."""
        rows = self._group.gather(values.reshape(-1).tolist()).values()
        return values.new_tensor([sum(column) for column in zip(*rows, strict=True)]).view_as(values)

    def maximum(self, values: Tensor) -> Tensor:
        """Return the maximum of each element of a small tensor over all members."""
        rows = self._group.gather(values.reshape(-1).tolist()).values()
        return values.new_tensor([max(column) for column in zip(*rows, strict=True)]).view_as(values)

    def check_alike(self, model: nn.Module, device: torch.device, choices: Mapping[str, object]) -> None:
        """Compare the models of the first workers, and what was chosen; a later one is compared as it takes a state."""
        if not self._group.founder:
            return
        rows = self._group.gather(fingerprints(model, choices))
        first = rows[min(rows)]
        for number, what in enumerate(("model", *choices)):
            differ = sorted(rank for rank, row in rows.items() if row[number] != first[number])
            if differ:
                raise ConfigurationError(
                    f"ranks {differ} were given another {what} than rank {min(rows)}; give all the same"
                )

    @torch.no_grad()
    def set_alike(self, model: nn.Module, share: ModelShard) -> None:
        """Give every first worker rank 0's parameters and buffers."""
        if not self._group.founder:
            return
        frozen = [parameter.data for parameter in model.parameters() if not parameter.requires_grad]
        vector = FlatVector([*share.flat.tensors, *frozen, *_numeric(list(model.buffers()))])
        if not self._group.coordinator:
            vector.zero_()
        for tensors in _by_dtype(vector.tensors):
            flat = FlatVector([torch.cat([tensor.reshape(-1) for tensor in tensors])])
            self._group.add_up(flat)
            for tensor, part in zip(tensors, flat.tensors[0].split([one.numel() for one in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    @torch.no_grad()
    def average_model(self, worker: Worker) -> None:
        """Set every member's model ``z_i`` to ``sum_i w_i z_i / sum_i w_i``, and its weight to 1."""
        weight = float(worker.weight) * self._network_ratio(worker)
        account = torch.tensor([weight], dtype=torch.float64)
        worker.params.mul_(weight)
        self._group.add_up(FlatVector([*worker.params.tensors, account]))
        worker.params.div_(float(account))
        worker.weight = 1.0

    @staticmethod
    def _network_ratio(worker: Worker) -> float:
        network = worker.network
        return network.ratio if isinstance(network, ElasticNetwork) else 1.0

    def average_buffers(self, buffers: Sequence[Tensor]) -> None:
        """Set numeric buffers to their average over all members, in place; whole numbers are rounded."""
        numeric = _numeric(buffers)
        if not numeric:
            return
        flat = torch.cat([buffer.reshape(-1).to(torch.float64) for buffer in numeric])
        flat.div_(self._group.add_up(FlatVector([flat])))
        for buffer, part in zip(numeric, flat.split([buffer.numel() for buffer in numeric]), strict=True):
            buffer.copy_((part if buffer.is_floating_point() else part.round()).view_as(buffer))

    @torch.no_grad()
    def consensus_distance(self, z: FlatVector) -> float:
        """Return ``sqrt(mean_i ||z_i - z_bar||^2) / ||z_bar||`` over the members, the same number on all."""
        z_bar = z.clone()
        z_bar.div_(self._group.add_up(z_bar))
        spread, size = 0.0, 0.0
        for mine, mean in zip(z.tensors, z_bar.tensors, strict=True):
            spread += float(torch.linalg.vector_norm(mine - mean, dtype=torch.float64)) ** 2
            size += float(torch.linalg.vector_norm(mean, dtype=torch.float64)) ** 2
        rows = self._group.gather([spread, size])
        spread, size = (sum(row[column] for row in rows.values()) / len(rows) for column in (0, 1))
        return float(spread**0.5 / max(size**0.5, 1e-300))


def group_of(elastic: ElasticGroup | bool, process_group: dist.ProcessGroup | None) -> ElasticGroup | None:
    """Return the elastic group that a user's choice means.

    Raises:
        ConfigurationError: there is nothing to make it of.
    """
    if isinstance(elastic, ElasticGroup):
        return elastic
    if not elastic:
        return None
    if process_group is not None or not dist.is_initialized():
        raise ConfigurationError(
            "elastic=True needs torch.distributed's default process group; or give an ElasticGroup"
        )
    store = dist.distributed_c10d._get_default_store()
    return ElasticGroup(store, dist.get_rank(), dist.get_world_size())


def workers_of(
    group: ElasticGroup | None, process_group: dist.ProcessGroup | None, node_size: int, device: torch.device
) -> tuple[NodeGroup, GlobalCollectives]:
    """Return this worker's node, and the collectives of all workers: of the elastic group, if there is one.

    Raises:
        ConfigurationError: the workers cannot be divided into such nodes.
    """
    if group is not None:
        return ElasticNode(group), ElasticCollectives(group)
    node = NodeGroup(process_group, node_size, device)
    return node, GlobalCollectives(node)


def _numeric(buffers: Sequence[Tensor]) -> list[Tensor]:
    return [buffer for buffer in buffers if buffer.dtype != torch.bool and buffer.numel()]


def _by_dtype(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault(tensor.dtype, []).append(tensor)
    return list(kinds.values())
