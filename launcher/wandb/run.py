"""From a run's ``spec.json`` to its mirror in Weights & Biases: one run, and with ``per_rank`` one a worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.runs.scores import read_scores

if TYPE_CHECKING:
    from sgp_core.tracking import Tracker, WandbTracker

_SHOWN = ("experiment", "evaluation", "checkpoint", "loader", "cluster", "provenance")
_PRIVATE = {"cluster": ("setup", "srun_args", "additional_parameters", "mail_user"), "provenance": ("command",)}
"""Where people put keys and addresses."""


def mirrored_ranks(spec: Mapping[str, Any]) -> list[int]:
    """Return the workers that have a run in Weights & Biases."""
    tracker = spec["tracker"]
    if tracker["name"] != "wandb":
        return []
    return list(range(spec["experiment"]["world_size"])) if tracker.get("per_rank") else [0]


def record_of(folder: Path, rank: int) -> Path:
    """Return the rows of one worker: the run's for 0, else what that worker measured itself."""
    return folder / (f"metrics-rank-{rank}.jsonl" if rank else "metrics.jsonl")


def wandb_tracker(spec: Mapping[str, Any], folder: Path, rank: int = 0, mode: str | None = None) -> WandbTracker:
    """Return the mirror of one worker's record, as the run was configured; ``mode`` beats the configured one."""
    from sgp_core.tracking import WandbTracker

    options = {key: value for key, value in spec["tracker"].items() if key not in ("name", "per_rank")}
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
        config=_config(spec),
        scores=read_scores(spec).metrics,
        record=record_of(folder, rank),
        rank=rank,
        **options,
    )


def trackers(spec: Mapping[str, Any], folder: Path, rank: int) -> list[Tracker]:
    """Return where one worker's rows go besides the run's own ``metrics.jsonl``."""
    from sgp_core.tracking import JsonlTracker

    if rank not in mirrored_ranks(spec):
        return []
    record = [JsonlTracker(record_of(folder, rank))] if rank else []
    return [*record, wandb_tracker(spec, folder, rank)]


def _config(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is shown of a run: all that makes it, nothing that may be secret, nothing of the environment."""
    return {
        section: {key: value for key, value in spec[section].items() if key not in _PRIVATE.get(section, ())}
        for section in _SHOWN
        if spec.get(section)
    }
