"""The training loop around :class:`sgp_core.Gossip`: settings, evaluation, checkpoints, metrics, export.

Names are imported on first use: settings must be readable without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgp_core.training.config import CheckpointConfig, EvaluationConfig, Experiment, LoaderConfig, TrainingConfig
    from sgp_core.training.loop import Preempted, train

_HOME = {
    "CheckpointConfig": "sgp_core.training.config",
    "EvaluationConfig": "sgp_core.training.config",
    "Experiment": "sgp_core.training.config",
    "LoaderConfig": "sgp_core.training.config",
    "Preempted": "sgp_core.training.loop",
    "TrainingConfig": "sgp_core.training.config",
    "train": "sgp_core.training.loop",
}

__all__ = ["CheckpointConfig", "EvaluationConfig", "Experiment", "LoaderConfig", "Preempted", "TrainingConfig", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sgp_core.training' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
