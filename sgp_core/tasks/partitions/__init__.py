"""Partitions of the training examples among workers, one file each. Importing this package does not import torch."""

from sgp_core.tasks.partitions.base import PARTITIONS, Assigned, Partition, check_labels

__all__ = ["PARTITIONS", "Assigned", "Partition", "check_labels"]
