"""Collectives over all workers of all nodes, beside the steps of an algorithm."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from sgp_core.algorithms.base import average_exactly
from sgp_core.algorithms.worker import Worker
from sgp_core.distributed.collectives import Collectives
from sgp_core.distributed.model_shard import ModelShard, is_sharded, local_tensor
from sgp_core.distributed.node_group import NodeGroup
from sgp_core.errors import ConfigurationError
from sgp_core.tensors.flat_vector import FlatVector

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""In a text that Python makes of an object: another one in every process."""


class GlobalCollectives:
    """Collectives over all workers of all nodes: first inside each node, then between the nodes.

    None of them counts among the bytes and seconds of training.

    Args:
        node: this worker's node.
    """

    def __init__(self, node: NodeGroup) -> None:
        self._node = node
        self._peers = Collectives(node.peers)

    @property
    def size(self) -> int:
        """Number of workers."""
        return self._node.count * self._node.size

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of a small tensor over all workers."""
        return self._peers.total(self._node.total(values))

    def maximum(self, values: Tensor) -> Tensor:
        """Return the maximum of each element of a small tensor over all workers."""
        return self._peers.maximum(self._node.maximum(values))

    @torch.no_grad()
    def check_alike(self, model: nn.Module, device: torch.device, choices: Mapping[str, object]) -> None:
        """Compare the models of all workers by the names, shapes and dtypes of their parameters, and what was chosen.

        Args:
            choices: what all workers must choose alike, as it says itself, by what it is called.

        Raises:
            ConfigurationError: on all workers, if something of some workers differs from rank 0's.
        """
        mine = torch.tensor(fingerprints(model, choices), dtype=torch.int64, device=device)
        first = mine.clone()
        self._node.broadcast([first])
        self._peers.broadcast([first])
        model_differs, *others = self.total((first != mine).to(torch.int64)).tolist()
        if model_differs:
            raise ConfigurationError(
                f"{model_differs} of {self.size} workers built a model whose parameters differ from rank 0's in"
                " name, shape or dtype"
            )
        for what, different in zip(choices, others, strict=True):
            if different:
                raise ConfigurationError(
                    f"{different} of {self.size} workers were given another {what} than rank 0; give all the same"
                )

    @torch.no_grad()
    def set_alike(self, model: nn.Module, share: ModelShard) -> None:
        """Give every worker rank 0's parameters and buffers."""
        frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
        alike = [*(parameter.data for parameter in frozen if not is_sharded(parameter)), *model.buffers()]
        whole = share.storage.flat.tensors if share.storage else []
        with self._node.uncounted():
            self._node.broadcast([*whole, *alike])
            sharded = [local_tensor(parameter) for parameter in frozen if is_sharded(parameter)]
            self._peers.broadcast([*share.flat.tensors, *sharded, *alike])
            share.spread()

    def uncounted(self) -> AbstractContextManager[None]:
        """Exclude the block from the bytes and seconds of training inside the node."""
        return self._node.uncounted()

    def average_model(self, worker: Worker) -> None:
        """Set every worker's model to the average of the numerators, and every weight to 1."""
        average_exactly(worker)

    def average_buffers(self, buffers: Sequence[Tensor]) -> None:
        """Set numeric buffers to their average over all workers, in place; whole numbers are rounded."""
        numeric = [buffer for buffer in buffers if buffer.dtype != torch.bool and buffer.numel()]
        if not numeric or self.size == 1:
            return
        total = self.total(torch.cat([buffer.reshape(-1).to(torch.float64) for buffer in numeric]))
        parts = total.div_(self.size).split([buffer.numel() for buffer in numeric])
        for buffer, part in zip(numeric, parts, strict=True):
            buffer.copy_((part if buffer.is_floating_point() else part.round()).view_as(buffer))

    @torch.no_grad()
    def consensus_distance(self, z: FlatVector) -> float:
        """Return ``sqrt(mean_i ||z_i - z_bar||^2) / ||z_bar||``, the same number on every worker.

        Args:
            z: this worker's shard.
        """
        if self._node.count == 1:
            return 0.0
        z_bar = z.clone()
        self._peers.mean(z_bar)
        spread, size = 0.0, 0.0
        for mine, mean in zip(z.tensors, z_bar.tensors, strict=True):
            spread += float(torch.linalg.vector_norm(mine - mean, dtype=torch.float64)) ** 2
            size += float(torch.linalg.vector_norm(mean, dtype=torch.float64)) ** 2
        sums = torch.tensor([spread, size], dtype=torch.float64, device=z.tensors[0].device)
        spread, size = (self.total(sums) / self._node.count).tolist()
        return float(spread**0.5 / max(size**0.5, 1e-300))


def fingerprints(model: nn.Module, choices: Mapping[str, object]) -> list[int]:
    """Return a number for a model, by the names, shapes and dtypes of its parameters, and one for each choice."""
    layout = repr([(name, tuple(p.shape), str(p.dtype), p.requires_grad) for name, p in model.named_parameters()])
    texts = [layout, *(_ADDRESS.sub("", repr(choice)) for choice in choices.values())]
    return [zlib.crc32(text.encode()) for text in texts]
