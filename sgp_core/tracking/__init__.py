"""Trackers of metrics: ``metrics.jsonl`` is the record, Weights & Biases a mirror of it."""

from sgp_core.tracking.base import Row, Tracker
from sgp_core.tracking.jsonl import JsonlTracker, read_rows
from sgp_core.tracking.wandb import WandbTracker

__all__ = ["JsonlTracker", "Row", "Tracker", "WandbTracker", "read_rows"]
