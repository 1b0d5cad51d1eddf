"""Models by name: one file each. Importing this package does not import torch."""

from sgp_core.tasks.models.base import MODELS, ImageModel, Model, TranslationModel

__all__ = ["MODELS", "ImageModel", "Model", "TranslationModel"]
