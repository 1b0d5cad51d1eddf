"""Callbacks by name: code that watches training and may end it. Importing this package does not import torch."""

from sgp_core.training.callbacks.base import CALLBACKS, Callback, TrainingProgress

__all__ = ["CALLBACKS", "Callback", "TrainingProgress"]
