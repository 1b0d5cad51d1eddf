"""No partition: in every epoch the workers divide the shuffled examples anew."""

from __future__ import annotations

from dataclasses import dataclass

from sgp_core.tasks.partitions.base import PARTITIONS, Partition


@PARTITIONS.register("iid")
@dataclass(frozen=True)
class IID(Partition):
    """Every worker sees a fresh uniform sample of all examples in every epoch: all have one distribution."""
