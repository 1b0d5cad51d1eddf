"""The models of all virtual workers: the rows of one matrix, and one module that can be any of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sgp_core.errors import ConfigurationError
from sgp_core.runtime.preconditions import find_parameters
from sgp_core.tensors.flat_storage import FlatStorage
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.layout import TensorLayout


class VirtualModels:
    """The parameters of every node, ``[n, d]``, and the buffers of every worker, ``[n * node_size, ...]``.

    The module's own parameters and buffers are views of one of them: of rank 0's outside of the blocks below.

    Args:
        model: the module, as every worker would build it; frozen parameters are one for all.
        nodes: number of gossip nodes, n.
        node_size: workers of a node, which hold the same parameters.

    Attributes:
        z: the parameters, laid out as a real worker lays out its own.
        gradients: likewise, of the nodes.
        parameters: the trainable ones of the module, in the order in which they lie in a row.

    Raises:
        ConfigurationError: nothing can be trained, or parameters have several dtypes.
    """

    def __init__(self, model: nn.Module, nodes: int, node_size: int = 1) -> None:
        self.model = model
        self.node_size = node_size
        self._storage = FlatStorage(find_parameters(model, None), parts=node_size)
        if len(self._storage.flat.tensors) > 1:
            kinds = ", ".join(sorted({str(tensor.dtype) for tensor in self._storage.flat.tensors}))
            raise ConfigurationError(f"virtual workers need parameters of one dtype, and this model's are {kinds}")
        self.parameters = self._storage.parameters
        self.average = self._storage.flat.tensors[0]
        """Memory for one model, in which the module holds the average."""
        self.z = self.average.expand(nodes, -1).clone()
        self.gradients = torch.zeros_like(self.z)
        workers = nodes * node_size
        self._buffers = dict(model.named_buffers())
        self.buffers = {name: buffer.expand(workers, *buffer.shape).clone() for name, buffer in self._buffers.items()}
        self._bind_to(0)

    @property
    def workers(self) -> int:
        """Number of workers."""
        return len(self.z) * self.node_size

    @property
    def layout(self) -> TensorLayout:
        """Where each parameter lies in a row."""
        return self._storage.layout[0]

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First and last column, the last excluded, of each of ``parameters``."""
        return [
            (offset, offset + p.numel())
            for p, (_, offset, _) in zip(self.parameters, self._storage.places, strict=True)
        ]

    def views(self, rows: Tensor) -> list[Tensor]:
        """Return a view ``[k, *shape]`` of each of ``parameters`` in k rows, ``[k, d]``."""
        k, d = rows.shape
        return [
            rows.as_strided((k, *parameter.shape), (d, *strides), rows.storage_offset() + offset)
            for parameter, (_, offset, strides) in zip(self.parameters, self._storage.places, strict=True)
        ]

    @contextmanager
    def each(self, workers: Sequence[int]) -> Iterator[Iterator[int]]:
        """Inside the block, iterate over workers; the module is the one that the iterator has returned last, its
        gradients rows of ``gradients``."""
        z, gradients = self.views(self.z), self.views(self.gradients)

        def bind() -> Iterator[int]:
            for worker in workers:
                row = worker // self.node_size
                for parameter, mine, gradient in zip(self.parameters, z, gradients, strict=True):
                    parameter.grad = None
                    parameter.data = mine[row]
                    parameter.grad = gradient[row]
                self._bind_buffers(worker)
                yield worker
                self._keep_buffers(worker)

        try:
            yield bind()
        finally:
            self._bind_to(0)

    @contextmanager
    def replica(self, worker: int) -> Iterator[None]:
        """Inside the block, the module is a worker's."""
        self._bind_to(worker)
        try:
            yield
        finally:
            self._keep_buffers(worker)
            self._bind_to(0)

    @contextmanager
    def averaged(self, parameters: Tensor) -> Iterator[None]:
        """Inside the block, the module has these parameters, ``[d]``, and the average of all workers' buffers."""
        self.average.copy_(parameters)
        self._bind(self.average)
        for name, buffer in self._buffers.items():
            buffer.data = self._average_buffer(self.buffers[name])
        try:
            yield
        finally:
            self._bind_to(0)

    def _bind_to(self, worker: int) -> None:
        self._bind(self.z[worker // self.node_size])
        self._bind_buffers(worker)

    def _bind(self, row: Tensor) -> None:
        """Let the module's parameters be those of a row, each a storage of its own."""
        for parameter, view in zip(self.parameters, self._storage.views(FlatVector([row])), strict=True):
            parameter.grad = None
            parameter.data = view

    def _bind_buffers(self, worker: int) -> None:
        for name, buffer in self._buffers.items():
            buffer.data = self.buffers[name][worker]

    def _keep_buffers(self, worker: int) -> None:
        """Keep what a module has put in the place of a buffer, not into it."""
        if not self._buffers:
            return
        for name, buffer in self.model.named_buffers():
            if buffer is not self._buffers[name]:
                self.buffers[name][worker] = buffer
                self._buffers[name] = buffer

    def _average_buffer(self, stack: Tensor) -> Tensor:
        """Return the mean of a buffer as :meth:`GlobalCollectives.average_buffers` forms it; flags have none."""
        if stack.dtype == torch.bool or not stack.numel() or len(stack) == 1:
            return stack[0].clone()
        mean = stack.to(torch.float64).mean(0)
        return (mean if stack.is_floating_point() else mean.round()).to(stack.dtype)
