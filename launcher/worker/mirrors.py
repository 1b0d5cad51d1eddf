"""The mirrors of one worker's rows, as a run's ``spec.json`` has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.config.trackers import tracker_in_spec
from launcher.wandb.run import public_settings, trackers

if TYPE_CHECKING:
    from sgp_core.tracking import Tracker

MLFLOW_STORE = "mlruns"
"""Folder beside the run folders where MLflow writes without a server."""


def mirrors(spec: Mapping[str, Any], folder: Path, rank: int) -> list[Tracker]:
    """Return the trackers of one worker's rows besides the run's own ``metrics.jsonl``."""
    opened = trackers(spec, folder, rank)
    if rank:
        return opened
    from sgp_core.tracking import MlflowTracker, TensorBoardTracker

    config = public_settings(spec)
    if (tensorboard := _options(spec, "tensorboard")) is not None:
        opened.append(TensorBoardTracker(spec["run_id"], folder, config=config, **tensorboard))
    if (mlflow := _options(spec, "mlflow")) is not None:
        store = folder.parent / MLFLOW_STORE
        tags = {"sweep": spec["sweep"]} if spec.get("sweep") else {}
        given = {"store": store, "name": spec["name"], "tags": tags, "config": config}
        opened.append(MlflowTracker(spec["run_id"], folder, **given, **mlflow))
    return opened


def _options(spec: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    found = tracker_in_spec(spec, name)
    return None if found is None else {key: value for key, value in found.items() if key != "name"}
