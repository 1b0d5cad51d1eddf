"""Trackers of metrics: ``metrics.jsonl`` is the record; Weights & Biases, TensorBoard and MLflow are mirrors of it."""

from sgp_core.tracking.base import Row, Tracker
from sgp_core.tracking.jsonl import JsonlTracker, read_rows
from sgp_core.tracking.mlflow import MlflowTracker
from sgp_core.tracking.tensorboard import TensorBoardTracker
from sgp_core.tracking.wandb import WandbTracker

__all__ = ["JsonlTracker", "MlflowTracker", "Row", "TensorBoardTracker", "Tracker", "WandbTracker", "read_rows"]
