"""The facts about a run that commands print, as plain data and in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from launcher.runs import number_format
from launcher.runs.find import Run, age
from launcher.runs.json_fields import mapping, number, text
from launcher.runs.scores import read_scores, score_in
from sgp_core.metrics import Metric


def facts(run: Run) -> dict[str, Any]:
    """Return the facts that lists of runs hold, as plain data."""
    score, value = score_of(run)
    return {
        "run_id": run.run_id,
        "name": run.name,
        "state": run.state,
        "note": run.note,
        "verified": run.verified,
        "step": run.step,
        "total_steps": run.total_steps,
        "loss": loss_of(run),
        "score_name": score.name if score is not None else None,
        "score": value,
        "created": iso_time(run.created or None),
        "last_sign": iso_time(run.last_sign),
        "cluster": run.cluster,
        "host": host_of(run),
        "job_id": run.job_id,
        "job_state": run.queued.state if run.queued else None,
        "nodes": text(run.queued.nodes) if run.queued else None,
        "sweep": run.sweep,
        "point": run.point or None,
        "folder": str(run.folder.path),
    }


def loss_of(run: Run) -> float | None:
    """Return the latest training loss."""
    return number(run.last_rows.get("train", {}).get("loss"))


def score_of(run: Run) -> tuple[Metric | None, float | None]:
    """Return the run's score and its latest value; None for both if the run has not been evaluated."""
    rows = [run.last_rows.get("val", {}), mapping(run.summary.get("final"))]
    metric = read_scores(run.spec).ranking_metric(rows)
    value = next((value for row in rows if (value := score_in(row, metric.name)) is not None), None)
    return (None, None) if value is None else (metric, value)


def host_of(run: Run) -> str | None:
    """Return the machine whose launcher watches, or watched, a run; None for a run on SLURM."""
    return None if run.job else text(mapping(mapping(run.spec.get("attempt")).get("launcher")).get("host"))


def where(run: Run) -> str:
    """Return where a run is: on a machine, or in a SLURM job with its nodes or the reason why it waits."""
    if run.cluster != "slurm":
        return f"{run.cluster} on {host}" if (host := host_of(run)) else run.cluster
    job = f"slurm {run.job_id or '?'}"
    if run.queued is None:
        return job
    if run.state == "queued":
        return f"{job}: {run.queued.reason}" if text(run.queued.reason) else job
    return f"{job} on {run.queued.nodes}" if text(run.queued.nodes) else job


def state_or_no_folder(run: Run) -> str:
    """Return a run's state, or ``no folder`` for a point of a sweep that has none."""
    return "no folder" if run.state == "damaged" and not run.folder.path.exists() else run.state


def progress(run: Run) -> str:
    """Return the steps completed, and if the run goes on, of how many."""
    total = run.total_steps
    if run.state == "completed" or not total:
        return str(run.step)
    return f"{run.step}/{total} {min(100, 100 * run.step // total):3}%"


def format_number(value: float | None) -> str:
    """Return a number as people read it, and a dash for None."""
    return "-" if value is None else number_format.plain(value)


def last_sign_age(run: Run) -> str:
    """Return how long ago a file of the run last changed."""
    return age(run.last_sign)


def iso_time(at: float | None) -> str | None:
    """Return a time, given in seconds since the epoch, as ISO 8601."""
    try:
        return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None
