"""Language models, one file each. Importing this package does not import torch."""

from sgp_core.tasks.language_modelling.models.base import LanguageModel

__all__ = ["LanguageModel"]
