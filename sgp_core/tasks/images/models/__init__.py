"""Models that classify images, one file each. Importing this package does not import torch."""

from sgp_core.tasks.images.models.base import ImageModel

__all__ = ["ImageModel"]
