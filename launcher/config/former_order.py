"""Runs of version 0.1, to which ``overlap_steps=1`` meant ``order=adapt_then_combine``: they stay what they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sgp_core.algorithms.order import Order
from sgp_core.atomic_files import read_json
from sgp_core.training.config import Experiment

_FORMER = Order.adapt_then_combine.value


def with_former_order(experiment: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the experiment of a ``spec.json`` with the order that version 0.1 did not record: it had no other."""
    if _lacks_order(experiment):
        return {**experiment, "algorithm": {**experiment["algorithm"], "order": _FORMER}}
    return experiment


def as_begun(experiment: Experiment, identify: Callable[[Experiment], str], runs_dir: Path) -> Experiment:
    """Return what the same settings meant to version 0.1, if it has begun their run in ``runs_dir``; else what they do.

    So the command that began a run goes on with it. A user who names the order gets that order.

    Args:
        identify: returns the id of an experiment's run.
    """
    if experiment.algorithm.get("order", _FORMER) is not None:
        return experiment
    former = dataclasses.replace(experiment, algorithm={**experiment.algorithm, "order": _FORMER})
    return former if began_before(runs_dir / identify(former)) else experiment


def began_before(run_dir: Path) -> bool:
    """Whether version 0.1 has begun the run of a folder, with an algorithm that has a choice of order now."""
    first = read_json(run_dir / "logs" / "attempt-1" / "spec.json") or read_json(run_dir / "spec.json")
    return first is not None and _lacks_order(first.get("experiment", {}))


def _lacks_order(experiment: Mapping[str, Any]) -> bool:
    algorithm = experiment.get("algorithm", {})
    return "overlap_steps" in algorithm and "order" not in algorithm
