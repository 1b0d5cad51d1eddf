"""Label shards: every worker holds few classes.

McMahan, Moore, Ramage, Hampson, Agüera y Arcas, "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017, Section 3 ("pathological non-IID").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgp_core.tasks.partitions.base import PARTITIONS, Assigned
from sgp_core.validation import at_least

if TYPE_CHECKING:
    import numpy as np


@PARTITIONS.register("label_shards")
@dataclass(frozen=True)
class LabelShards(Assigned):
    """Examples sorted by class are cut into ``shards`` pieces per worker, and each worker gets as many at random.

    A worker sees about ``shards`` classes; more where a cut falls inside one. With fewer shards in all than there are
    classes, a shard holds several.
    """

    shards: int = 2
    """Pieces each worker has; the paper's number."""

    def __post_init__(self) -> None:
        at_least(1, "partition.shards", self.shards)

    def deal(
        self, order: np.ndarray, stock: np.ndarray, sizes: np.ndarray, rng: np.random.Generator
    ) -> list[np.ndarray]:
        import numpy as np

        owners = rng.permutation(np.repeat(np.arange(len(sizes)), self.shards))
        pieces = np.empty(len(owners), dtype=np.int64)
        for rank, size in enumerate(sizes):  # of one worker, as equal as can be
            pieces[owners == rank] = size // self.shards + (np.arange(self.shards) < size % self.shards)
        owner_of = np.repeat(owners, pieces)
        return [order[owner_of == rank] for rank in range(len(sizes))]
