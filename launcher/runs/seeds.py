"""Runs that differ by their seed only: which they are, and the mean and standard deviation over them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.runs.settings import SEED


@dataclass(frozen=True)
class Sample:
    """A number over the seeds of a configuration.

    Attributes:
        mean: over the runs that have measured it.
        std: the sample standard deviation (divided by ``count - 1``); None for a single run.
        count: number of those runs.
    """

    mean: float
    std: float | None
    count: int


def summarize(values: Sequence[float]) -> Sample:
    """Return mean and sample standard deviation of one or more values."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return Sample(statistics.fmean(values), std, len(values))


def group_by_seed(settings: Sequence[Mapping[str, Any]]) -> list[tuple[int, ...]]:
    """Return the positions of runs that differ by their seed only, a group each, in the order in which they come.

    Args:
        settings: of each run; a run without any is a group of its own.
    """
    groups: dict[str, list[int]] = {}
    for position, given in enumerate(settings):
        same = {key: value for key, value in given.items() if key != SEED}
        identity = json.dumps(same, sort_keys=True, default=str) if same else f"run {position}"
        groups.setdefault(identity, []).append(position)
    return [tuple(group) for group in groups.values()]
