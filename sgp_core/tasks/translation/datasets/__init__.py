"""Data sets of parallel text, one file each. Importing this package reads no data and does not import torch."""

from sgp_core.tasks.translation.datasets.text import TextDataset

__all__ = ["TextDataset"]
