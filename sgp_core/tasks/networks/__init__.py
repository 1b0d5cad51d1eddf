"""Torch modules that options in ``sgp_core.tasks.models`` build; these do import torch."""
