"""Mixes several vectors in place, block by block, so that the blocks that are mixed together stay in the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sgp_core.tensors.mixing import GRAIN, difference_, mix_all_
from sgp_core.topology.base import Edges
from sgp_core.transports.shared_memory.mixing_plan import MixingComponent

_CACHE_BYTES = 2 << 20
"""Bytes that a core works on at a time: few enough for its cache, enough to make Python's overhead small."""


class BlockedMixer:
    """Mixes vectors by blocks; owns the memory for old values, which is allocated once."""

    def __init__(self) -> None:
        self._threads = torch.get_num_threads()
        self._memory: dict[torch.dtype, Tensor] = {}

    def mix(self, component: MixingComponent, tensors: Sequence[Tensor]) -> None:
        """Replace the values of all members of a component by their new ones.

        Args:
            component: the order of the computation.
            tensors: the same range of the vectors of all members, then of all remote senders; it begins at a multiple
                of ``GRAIN``.
        """
        size = min(self._block_size(len(tensors) + component.buffers, tensors[0]), tensors[0].numel())
        if size == 0:
            return
        buffers = self._buffer(component.buffers * size, tensors[0].dtype).split(size)
        for blocks in zip(*(tensor.split(size) for tensor in tensors), strict=True):
            if len(blocks[0]) < size:
                buffers = tuple(buffer[: len(blocks[0])] for buffer in buffers)
            at = [*blocks, *buffers]
            for place, keep, own_weight, sources, in_weights in component.steps:
                if keep is not None:
                    at[keep].copy_(at[place])
                mix_all_(at[place], own_weight, [at[source] for source in sources], in_weights)

    def differences(
        self, component: MixingComponent, edges: Edges, tensors: Sequence[Tensor], into: Sequence[Tensor]
    ) -> None:
        """Set ``into`` of each member to what its new values have beyond its old ones, as ``difference_`` does.

        Args:
            component: without remote senders.
            edges: of the step.
            tensors, into: the same range of the vectors of all members.
        """
        place = {member: number for number, member in enumerate(component.members)}
        size = self._block_size(2 * len(tensors), tensors[0])
        blocks = [tensor.split(size) for tensor in tensors], [tensor.split(size) for tensor in into]
        for old, new in zip(zip(*blocks[0], strict=True), zip(*blocks[1], strict=True), strict=True):
            for step in component.steps:
                peers = edges.in_peers[component.members[step.place]]
                received = [old[place[peer]] for peer in peers]
                difference_(new[step.place], old[step.place], step.own_weight, received, step.in_weights)

    def mix_into(
        self, into: Tensor, mine: Tensor, own_weight: float, received: Sequence[Tensor], weights: Sequence[float]
    ) -> None:
        """Set ``into`` to ``own_weight * mine + sum_j weights_j * received_j``; it may be any of these vectors."""
        for new, old, *others in self._blocks(into, mine, *received):
            block = old if into is mine else self._buffer(len(old), old.dtype).copy_(old)
            mix_all_(block, own_weight, others, weights)
            if into is not mine:
                new.copy_(block)

    def difference_into(
        self, into: Tensor, mine: Tensor, own_weight: float, received: Sequence[Tensor], weights: Sequence[float]
    ) -> None:
        """Set ``into``, which may be any of ``received``, to what that has beyond ``mine``, as ``difference_`` does."""
        for new, old, *others in self._blocks(into, mine, *received):
            block = self._buffer(len(old), old.dtype)
            difference_(block, old, own_weight, others, weights)
            new.copy_(block)

    def add(self, mine: Tensor, received: Sequence[Tensor], weights: Sequence[float]) -> None:
        """Add ``sum_j weights_j * received_j`` to ``mine``."""
        self.mix_into(mine, mine, 1.0, received, weights)

    def _blocks(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Cut tensors into blocks that stay in the cache together."""
        size = self._block_size(1 + len(tensors), tensors[0])
        return zip(*(tensor.split(size) for tensor in tensors), strict=True)

    def _block_size(self, together: int, like: Tensor) -> int:
        """Return the number of elements of a block, so that ``together`` blocks stay in the cache of each core."""
        grains = max(1, _CACHE_BYTES // (together * like.element_size() * GRAIN))
        return grains * GRAIN * self._threads

    def _buffer(self, elements: int, dtype: torch.dtype) -> Tensor:
        if dtype not in self._memory or len(self._memory[dtype]) < elements:
            self._memory[dtype] = torch.zeros(elements, dtype=dtype)
        return self._memory[dtype][:elements]
