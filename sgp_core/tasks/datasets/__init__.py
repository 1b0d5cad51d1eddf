"""Data sets by name: one file each. Importing this package reads no data and does not import torch."""

from sgp_core.tasks.datasets.base import DATASETS, Dataset, Examples, ImageDataset

__all__ = ["DATASETS", "Dataset", "Examples", "ImageDataset"]
