"""Durations of computation that a real run recorded with ``debug=timeline``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sgp_core.atomic_files import read_file
from sgp_core.errors import ConfigurationError

_EXCHANGES = ("mix", "post", "combine", "complete", "push", "pull", "mean", "share", "swap")
"""What workers do in a step beside computing; ``data`` is counted as computation: a worker waits for its batch, too."""


def read_durations(folder: str) -> list[list[float]]:
    """Return how long each worker computed in each recorded step, ms, ``[workers][steps]``.

    Args:
        folder: of a run, or its folder ``timeline``.

    Raises:
        ConfigurationError: nothing was recorded there, or it cannot be read.
    """
    at = Path(folder).expanduser()
    files = sorted([*at.glob("timeline/rank-*.json"), *at.glob("rank-*.json")], key=_rank)
    durations = [found for file in files if (found := _durations(file))]
    if not durations:
        raise ConfigurationError(
            f"computation.path={folder}: no timeline was recorded there; use the folder of a run with debug=timeline"
        )
    return durations


def _rank(path: Path) -> int:
    rank = path.stem.removeprefix("rank-")
    return int(rank) if rank.isdecimal() else -1


def _durations(path: Path) -> list[float]:
    """Return the length of each step less that of the exchanges inside it, ms."""
    try:
        events: list[dict[str, Any]] = json.loads(read_file(path))["traceEvents"]
        spans = [event for event in events if event.get("ph") == "X" and event.get("tid") == 0]
        steps = sorted((span["ts"], span["dur"]) for span in spans if span["name"] == "step")
        exchanges = sorted((span["ts"], span["dur"]) for span in spans if span["name"] in _EXCHANGES)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"computation.path: {path} is no timeline of a worker: {error}") from None
    return [
        max(0.0, length - sum(dur for ts, dur in exchanges if begin <= ts < begin + length)) / 1e3
        for begin, length in steps
    ]
