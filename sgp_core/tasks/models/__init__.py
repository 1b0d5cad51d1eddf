"""Models by name: one file each. Importing this package does not import torch."""

from sgp_core.tasks.models.base import MODELS, Model

__all__ = ["MODELS", "Model"]
