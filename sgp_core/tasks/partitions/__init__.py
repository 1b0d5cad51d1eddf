"""Which worker trains on which examples: one file a way. Importing this package does not import torch."""

from sgp_core.tasks.partitions.base import PARTITIONS, Assigned, Partition

__all__ = ["PARTITIONS", "Assigned", "Partition"]
