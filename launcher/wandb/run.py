"""The mirror of a run in Weights & Biases: one W&B run, with ``per_rank`` one for each worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.config.clusters import SimulatorCluster
from launcher.config.trackers import WandbOptions, tracker_in_spec
from launcher.runs.scores import read_scores

if TYPE_CHECKING:
    from sgp_core.tracking import Tracker, WandbTracker

_MIRRORED = ("experiment", "evaluation", "checkpoint", "loader", "cluster", "provenance")
_PRIVATE = {"cluster": ("setup", "srun_args", "additional_parameters", "mail_user"), "provenance": ("command",)}
"""Settings that may hold keys and addresses, which never leave the machine."""


def mirrored_ranks(spec: Mapping[str, Any]) -> list[int]:
    """Return the ranks of the workers that have a run in Weights & Biases."""
    tracker = tracker_in_spec(spec, WandbOptions.name)
    if tracker is None:
        return []
    per_rank = tracker.get("per_rank") and (spec.get("cluster") or {}).get("name") != SimulatorCluster.name
    return list(range(spec["experiment"]["world_size"])) if per_rank else [0]


def record_of(folder: Path, rank: int) -> Path:
    """Return the file of one worker's rows: the run's own for rank 0, else those that the worker measured itself."""
    return folder / (f"metrics-rank-{rank}.jsonl" if rank else "metrics.jsonl")


def wandb_tracker(spec: Mapping[str, Any], folder: Path, rank: int = 0, mode: str | None = None) -> WandbTracker:
    """Return the tracker that mirrors one worker's rows.

    Args:
        spec: the run's ``spec.json``.
        mode: W&B's mode; None: the configured one.
    """
    from sgp_core.tracking import WandbTracker

    given = tracker_in_spec(spec, WandbOptions.name) or {}
    options = {key: value for key, value in given.items() if key not in ("name", "per_rank")}
    group = options.pop("group", None) or spec.get("sweep")
    if group is None and len(mirrored_ranks(spec)) > 1:
        group = spec["run_id"]
    if mode is not None:
        options["mode"] = mode
    return WandbTracker(
        spec["run_id"],
        folder,
        name=spec["name"],
        group=group,
        config=public_settings(spec),
        scores=read_scores(spec).metrics,
        record=record_of(folder, rank),
        rank=rank,
        **options,
    )


def trackers(spec: Mapping[str, Any], folder: Path, rank: int) -> list[Tracker]:
    """Return the trackers of one worker's rows for Weights & Biases."""
    from sgp_core.tracking import JsonlTracker

    if rank not in mirrored_ranks(spec):
        return []
    record = [JsonlTracker(record_of(folder, rank))] if rank else []
    return [*record, wandb_tracker(spec, folder, rank)]


def public_settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings and provenance of a run, less those that may be secret."""
    return {
        section: {key: value for key, value in spec[section].items() if key not in _PRIVATE.get(section, ())}
        for section in _MIRRORED
        if spec.get(section)
    }
