"""The part of the model that a worker gossips: the whole model, a shard in a node group, or its FSDP2 shard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from sgp_core.distributed.node_group import NodeGroup
from sgp_core.errors import ConfigurationError
from sgp_core.tensors.flat_storage import FlatStorage
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.layout import Layout, TensorLayout


class ModelShard(Protocol):
    """The vector that a rule computes with, and how the model follows it."""

    flat: FlatVector
    """Memory of the numerators: the vector that is mixed and sent."""

    @property
    def storage(self) -> FlatStorage | None:
        """Storage of the whole model; None if this worker holds only a part of it."""

    @property
    def layout(self) -> Layout:
        """The layout of ``flat``."""

    def collect(self) -> None:
        """Update ``flat`` from the model."""

    def spread(self) -> None:
        """Update the model from ``flat``. Collective over the workers of a node."""

    def keep(self) -> FlatVector:
        """Return a copy of everything that this worker holds of the model."""

    def restore(self, kept: FlatVector) -> None:
        """Restore what :meth:`keep` returned, bit for bit and without messages."""


class FlatModelShard:
    """The whole model lies in this worker's flat storage; its shard is a view of that, all of it in a node of one."""

    def __init__(self, storage: FlatStorage, node: NodeGroup) -> None:
        self.storage = storage
        self.flat = node.shard_of(self.storage.flat)
        self._node = node

    @property
    def layout(self) -> Layout:
        """The layout of the shard."""
        sizes = [len(tensor) for tensor in self.flat.tensors]
        begins = [self._node.place * size for size in sizes]
        return [
            memory.between(begin, begin + size)
            for memory, begin, size in zip(self.storage.layout, begins, sizes, strict=True)
        ]

    def collect(self) -> None:
        """Do nothing: model and vector are the same memory."""

    def spread(self) -> None:
        """Gather the node's shards."""
        self._node.gather(self.storage.flat)

    def keep(self) -> FlatVector:
        """Return a copy of the whole model."""
        return self.storage.flat.clone()

    def restore(self, kept: FlatVector) -> None:
        """Set the whole model."""
        self.storage.flat.copy_(kept)


class FSDPModelShard:
    """FSDP2 owns the memory of the local shards, so they are copied to flat memory before a rule, and back after it.

    Args:
        model: the module that ``fully_shard`` was called on.
        parameters: all sharded by ``fully_shard`` on a mesh of one axis, the workers of the node.

    Raises:
        ConfigurationError: they are sharded, but not over the workers of the node.
    """

    storage: FlatStorage | None = None

    def __init__(self, model: nn.Module, parameters: Sequence[nn.Parameter], node: NodeGroup) -> None:
        from torch.distributed.fsdp import FSDPModule

        for parameter in parameters:
            ranks = _ranks_of(parameter)
            if ranks != node.ranks:
                raise ConfigurationError(
                    f"a parameter is {f'sharded over ranks {ranks}' if ranks else 'not sharded'}, but the node is ranks"
                    f" {node.ranks}: use fully_shard on the whole model, with a mesh of one axis, the node's workers"
                )
        self._modules = [module for module in model.modules() if isinstance(module, FSDPModule)]
        self._parameters = list(parameters)[::-1]
        sizes: dict[tuple[torch.dtype, torch.device], int] = {}
        for part in self._parts():
            kind = (part.dtype, part.device)
            sizes[kind] = sizes.get(kind, 0) + part.numel()
        pieces = {kind: torch.zeros(size, dtype=kind[0], device=kind[1]) for kind, size in sizes.items()}
        self.flat = FlatVector(list(pieces.values()))
        ends = dict.fromkeys(pieces, 0)
        self._views = []
        for part in self._parts():
            kind = (part.dtype, part.device)
            begin, ends[kind] = ends[kind], ends[kind] + part.numel()
            self._views.append(pieces[kind][begin : ends[kind]].view(part.shape))
        shapes = {kind: [view.shape for view in self._views if view.dtype == kind[0]] for kind in pieces}
        self.layout: Layout = [
            TensorLayout.packed(shapes[kind], str(kind[0]).removeprefix("torch.")) for kind in pieces
        ]
        self.collect()

    def collect(self) -> None:
        """Copy the local shards."""
        torch._foreach_copy_(self._views, self._parts())

    def spread(self) -> None:
        """Copy to the local shards, and free what forward has gathered from older ones."""
        torch._foreach_copy_(self._parts(), self._views)
        for module in self._modules:
            module.reshard()

    def keep(self) -> FlatVector:
        """Return a copy of the local shards."""
        return self.flat.clone()

    def restore(self, kept: FlatVector) -> None:
        """Set the local shards."""
        self.flat.copy_(kept)
        self.spread()

    @torch.no_grad()
    def _parts(self) -> list[Tensor]:
        return [local_tensor(parameter) for parameter in self._parameters]


def place_in_flat_memory(model: nn.Module, parameters: Sequence[nn.Parameter], node: NodeGroup) -> ModelShard:
    """Move the parameters to flat memory of this process alone; return what this worker gossips of them.

    Raises:
        ConfigurationError: the model is sharded, but not over the workers of the node.
    """
    if any(is_sharded(parameter) for parameter in parameters):
        return FSDPModelShard(model, parameters, node)
    return FlatModelShard(FlatStorage(parameters, parts=node.size), node)


def is_sharded(tensor: Tensor) -> bool:
    """Whether this is a DTensor; found out without importing DTensor, which takes a second."""
    return hasattr(tensor, "to_local")


def local_tensor(tensor: Tensor) -> Tensor:
    """Return this worker's part of a DTensor, sharing memory; any other tensor as it is. Call it under ``no_grad``."""
    part: Tensor = tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return part


def _ranks_of(parameter: nn.Parameter) -> list[int] | None:
    if not is_sharded(parameter):
        return None
    ranks: list[int] = parameter.device_mesh.mesh.flatten().tolist()  # type: ignore[attr-defined]
    return ranks
