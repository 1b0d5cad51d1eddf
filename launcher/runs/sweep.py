"""A sweep: the runs of one command, recorded as a group."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher.config.choice import Choice
from launcher.config.redact import redact
from launcher.config.run_plan import RunPlan
from launcher.config.trackers import WandbOptions
from launcher.runs.run_folder import SWEEPS
from sgp_core.atomic_files import read_json, write_json

SWEEP_ID_DIGITS = 8


def sweep_id(identity: Sequence[str]) -> str:
    """Return the id of a sweep. The same runs in any order are the same sweep."""
    return hashlib.sha256("\n".join(sorted(identity)).encode()).hexdigest()[:SWEEP_ID_DIGITS]


def as_sweep(plans: Sequence[RunPlan], identity: Sequence[str] | None = None) -> list[RunPlan]:
    """Return the plans as members of one sweep, which is also their group in Weights & Biases.

    Args:
        identity: words that define the sweep; by default the ids of its runs.
    """
    name = sweep_id(identity or [plan.run_id for plan in plans])
    points = tell_apart([plan.overrides for plan in plans])
    return [
        dataclasses.replace(plan, sweep=name, point=point, trackers=_with_group(plan.trackers, name))
        for plan, point in zip(plans, points, strict=True)
    ]


def tell_apart(overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return for each run the settings that not all of them share, such as ``lr=0.1 topology=ring``.

    A setting goes by the last part of its name, unless another one has the same or it is no more than ``name``.

    Args:
        overrides: the words of each run; of a single run all count.
    """
    common = set.intersection(*map(set, overrides)) if len(overrides) > 1 else set()
    different = [[word.partition("=") for word in words if word not in common] for words in overrides]
    keys = {key for words in different for key, _, _ in words}
    last = Counter(key.rpartition(".")[2] for key in keys)

    def short(key: str) -> str:
        part = key.rpartition(".")[2]
        return part if last[part] == 1 and part != "name" else key

    return [" ".join(f"{short(key)}{sign}{_short_number(value)}" for key, sign, value in words) for words in different]


def sweep_folder(runs_dir: Path, sweep: str) -> Path:
    """Return the folder of a sweep's record and of its SLURM files."""
    return runs_dir / SWEEPS / sweep


def record_sweep(plans: Sequence[RunPlan], command: Sequence[str], search: dict[str, Any] | None = None) -> None:
    """Write ``sweep.json``; a search adds a point to it with every run that it chooses."""
    sweep = plans[0].sweep
    assert sweep is not None
    path = sweep_folder(plans[0].run_dir.parent, sweep) / "sweep.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    earlier = read_json(path) or {}
    points = {point["run_id"]: point for point in earlier.get("points", [])}
    for plan in plans:
        points[plan.run_id] = {"run_id": plan.run_id, "name": plan.name, "overrides": list(plan.overrides)}
    record = {
        "sweep_id": sweep,
        "command": shlex.join(map(redact, command)),
        "created": earlier.get("created") or time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "points": list(points.values()),
        "search": search,
    }
    write_json(path, record)


def _short_number(value: str) -> str:
    """Return a number with the digits that a reader wants: a search draws values with sixteen."""
    try:
        return f"{float(value):.4g}" if "." in value and len(value) > 6 else value
    except ValueError:
        return value


def _with_group(trackers: Sequence[Choice], sweep: str) -> tuple[Choice, ...]:
    return tuple(
        dataclasses.replace(one, group=sweep) if isinstance(one, WandbOptions) and one.group is None else one
        for one in trackers
    )
