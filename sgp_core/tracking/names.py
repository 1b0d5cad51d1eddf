"""Names of metrics on a dashboard, in the sections ``train/ val/ gossip/ time/ system/`` over ``step``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sgp_core.metrics import find_metric
from sgp_core.tracking.base import Row

AXES = ("step", "epoch")
"""Carried by every row, so that any curve can be drawn over them."""


def dashboard_numbers(row: Row) -> dict[str, float]:
    """Return the numbers of ``row`` under their names on a dashboard; what was not measured is left out."""
    training = row.get("split", "train") == "train"
    numbers: dict[str, float] = {}
    for name, value in row.items():
        metric = find_metric(name)
        if not _is_number(value) or (metric.windowed and not training):
            continue
        numbers[metric.dashboard or f"{'train' if training else 'val'}/{name}"] = value
    parts = [numbers.get(f"time/{part}_ms") for part in ("step", "compute", "comm")]
    if "time/data_ms" not in numbers and None not in parts:  # rows of version 0.1 before data_time_ms was recorded
        step, compute, communication = (float(part or 0.0) for part in parts)
        numbers["time/data_ms"] = max(0.0, step - compute - communication)
    return numbers


def dashboard_numbers_of_rank(row: Row) -> dict[str, float]:
    """Return the numbers that differ between workers; none of a validation row, whose scores all workers share."""
    if row.get("split", "train") != "train":
        return {}
    common = {"train/lr", "system/world_size", "gossip/consensus_distance"}
    numbers = {name: value for name, value in dashboard_numbers(row).items() if name not in common}
    weight = numbers.pop("gossip/push_sum_weight_min", None)
    numbers.pop("gossip/push_sum_weight_max", None)
    if weight is not None and row.get("consensus_distance") is None:  # measured together: the extremes over all workers
        numbers["gossip/push_sum_weight"] = weight
    return numbers


def summary_scores(prefix: str, row: Row | None) -> dict[str, float]:
    """Return the scores of an evaluation, and where they were reached, as ``prefix/accuracy``, ``prefix/step``, ..."""
    wanted = (*AXES, "time/wall_s", "time/virtual_s", "gossip/consensus_distance")
    numbers = dashboard_numbers({"split": "val", **(row or {})})
    return {
        f"{prefix}/{name.rpartition('/')[2]}": value
        for name, value in numbers.items()
        if name in wanted or name.startswith("val/")
    }


_GROUPS = (
    *("algorithm", "topology", "outer", "pace", "compression", "model", "dataset", "partition", "loss"),
    *("optimizer", "schedule"),
)


def headline(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that runs are grouped and filtered by, one level deep."""
    chosen = {group: (experiment.get(group) or {}).get("name") for group in _GROUPS}
    chosen |= {
        "lr": (experiment.get("optimizer") or {}).get("lr"),
        "batch_size": (experiment.get("training") or {}).get("batch_size"),
        "workers": experiment.get("world_size"),
        "seed": experiment.get("seed"),
    }
    return {name: value for name, value in chosen.items() if value is not None}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
