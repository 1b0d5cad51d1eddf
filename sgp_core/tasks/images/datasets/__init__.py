"""Data sets of images, one file each. Importing this package reads no data and does not import torch."""

from sgp_core.tasks.images.datasets.base import ImageDataset

__all__ = ["ImageDataset"]
