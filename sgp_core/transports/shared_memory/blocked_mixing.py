"""Mixing several vectors where they lie, block by block, so that what is mixed together stays in the cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sgp_core.tensors.mixing import GRAIN, mix_all_
from sgp_core.transports.shared_memory.mixing_plan import MixingComponent

_CACHE_BYTES = 2 << 20
"""Of what a core works on at a time: few enough to stay near it, enough that Python's share of the time is small."""


class BlockedMixer:
    """Memory for old values, made once, and the sizes of blocks."""

    def __init__(self) -> None:
        self._threads = torch.get_num_threads()
        self._room: dict[torch.dtype, Tensor] = {}

    def mix(self, component: MixingComponent, tensors: Sequence[Tensor]) -> None:
        """Give the members of a component their new values.

        Args:
            tensors: the same stretch of the vectors of all members, then of all senders from elsewhere; it begins at
                a multiple of ``GRAIN``.
        """
        size = min(self._size_of(len(tensors) + component.buffers, tensors[0]), tensors[0].numel())
        if size == 0:
            return
        buffers = self._room_for(component.buffers * size, tensors[0].dtype).split(size)
        for blocks in zip(*(tensor.split(size) for tensor in tensors), strict=True):
            if len(blocks[0]) < size:
                buffers = tuple(buffer[: len(blocks[0])] for buffer in buffers)
            at = [*blocks, *buffers]
            for place, keep, own, sources, shares in component.turns:
                if keep is not None:
                    at[keep].copy_(at[place])
                mix_all_(at[place], own, [at[source] for source in sources], shares)

    def add(self, mine: Tensor, theirs: Sequence[Tensor], shares: Sequence[float]) -> None:
        """Add ``sum_j share_j theirs_j`` to a tensor."""
        size = self._size_of(1 + len(theirs), mine)
        for block, *received in zip(*(tensor.split(size) for tensor in (mine, *theirs)), strict=True):
            mix_all_(block, 1.0, received, shares)

    def _size_of(self, together: int, like: Tensor) -> int:
        """Return how many elements a block has, so that ``together`` of them stay in the cache of each core."""
        grains = max(1, _CACHE_BYTES // (together * like.element_size() * GRAIN))
        return grains * GRAIN * self._threads

    def _room_for(self, elements: int, dtype: torch.dtype) -> Tensor:
        if dtype not in self._room or len(self._room[dtype]) < elements:
            self._room[dtype] = torch.zeros(elements, dtype=dtype)
        return self._room[dtype][:elements]
