"""Data sets of text to predict, one file each. Importing this package reads no data and does not import torch."""

from sgp_core.tasks.language_modelling.datasets.base import DocumentDataset, LanguageDataset

__all__ = ["DocumentDataset", "LanguageDataset"]
