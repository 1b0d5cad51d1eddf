"""What verbs tell of a run: as plain data, and in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from launcher.report import number_format
from launcher.runs.find import Run, age
from launcher.runs.json_fields import mapping, number, text
from launcher.runs.metric_rows import SCORES, score


def facts(run: Run) -> dict[str, Any]:
    """Return what a list of runs tells of one."""
    name, value = score_of(run)
    return {
        "run_id": run.run_id,
        "name": run.name,
        "state": run.state,
        "note": run.note,
        "verified": run.verified,
        "step": run.step,
        "total_steps": run.total_steps,
        "loss": loss_of(run),
        "score_name": name,
        "score": value,
        "created": moment(run.created or None),
        "last_sign": moment(run.last_sign),
        "cluster": run.cluster,
        "host": host_of(run),
        "job_id": run.job_id,
        "job_state": run.queued.state if run.queued else None,
        "nodes": text(run.queued.nodes) if run.queued else None,
        "sweep": run.sweep,
        "folder": str(run.folder.path),
    }


def loss_of(run: Run) -> float | None:
    """Return the latest training loss."""
    return number(run.last_rows.get("train", {}).get("loss"))


def score_of(run: Run) -> tuple[str | None, float | None]:
    """Return the name and the latest value of the run's validation score."""
    for row in (run.last_rows.get("val", {}), mapping(run.summary.get("final"))):
        for name in SCORES:
            if (value := score(row, name)) is not None:
                return name, value
    return None, None


def host_of(run: Run) -> str | None:
    """Return the machine that watches, or watched, a run that is not on SLURM."""
    return None if run.job else text(mapping(mapping(run.spec.get("attempt")).get("launcher")).get("host"))


def where(run: Run) -> str:
    """Return where a run is: a job, its nodes or why it waits; or a machine."""
    if run.cluster != "slurm":
        return f"{run.cluster} on {host}" if (host := host_of(run)) else run.cluster
    job = f"slurm {run.job_id or '?'}"
    if run.queued is None:
        return job
    if run.state == "queued":
        return f"{job}: {run.queued.reason}" if text(run.queued.reason) else job
    return f"{job} on {run.queued.nodes}" if text(run.queued.nodes) else job


def stands(run: Run) -> str:
    """Return a run's state; a point of a sweep whose folder is not there is shown as such."""
    return "no folder" if run.state == "damaged" and not run.folder.path.exists() else run.state


def progress(run: Run) -> str:
    """Return steps completed, and of how many."""
    total = run.total_steps
    if run.state == "completed" or not total:
        return str(run.step)
    return f"{run.step}/{total} {min(100, 100 * run.step // total):3}%"


def shown(value: float | None) -> str:
    """Return a number as people read it."""
    return "-" if value is None else number_format.plain(value)


def seen(run: Run) -> str:
    """Return how long ago the run gave a sign of life."""
    return age(run.last_sign)


def moment(at: float | None) -> str | None:
    """Return a time as ISO 8601."""
    try:
        return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None
