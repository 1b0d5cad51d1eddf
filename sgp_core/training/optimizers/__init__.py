"""Optimizers by name: torch's own, with their options typed. Importing this package does not import torch."""

from sgp_core.training.optimizers.base import OPTIMIZERS, OptimizerOptions

__all__ = ["OPTIMIZERS", "OptimizerOptions"]
