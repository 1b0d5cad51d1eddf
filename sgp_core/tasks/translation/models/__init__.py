"""Models that translate, one file each. Importing this package does not import torch."""

from sgp_core.tasks.translation.models.base import TranslationModel

__all__ = ["TranslationModel"]
