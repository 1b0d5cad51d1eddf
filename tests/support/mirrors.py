"""What TensorBoard and MLflow hold of a run, read by their own readers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sgp_core.atomic_files import read_json
from sgp_core.tracking import read_rows
from sgp_core.tracking.names import dashboard_numbers

Curves = dict[str, list[tuple[int, float]]]
"""The points of every curve, as step and value."""


def of_record(record: Path) -> Curves:
    """Return the curves of a record: of the rows of one step, the first that has the number counts."""
    curves: dict[str, dict[int, float]] = {}
    for row in read_rows(record):
        for name, value in dashboard_numbers(row).items():
            if name != "step":
                curves.setdefault(name, {}).setdefault(row["step"], float(value))
    return {name: sorted(points.items()) for name, points in curves.items()}


def of_tensorboard(run: Path) -> Curves:
    """Return the curves in the event files of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    reader.Reload()
    return {name: [(one.step, one.value) for one in reader.Scalars(name)] for name in reader.Tags()["scalars"]}


def mlflow_run(run: Path, uri: str) -> tuple[Any, Curves]:
    """Return MLflow's run of a run, and its curves."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_run((read_json(run / "mlflow.json") or {})["run"])
    histories = {name: client.get_metric_history(found.info.run_id, name) for name in found.data.metrics}
    return found, {name: sorted((one.step, one.value) for one in points) for name, points in histories.items()}


def rows_only(curves: Curves) -> Curves:
    """Return the curves without the scores of the summary."""
    return {name: points for name, points in curves.items() if not name.startswith(("best/", "final/"))}
