"""Run folders as training leaves them, made up in no time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

EXPERIMENT: dict[str, Any] = {
    "model": {"name": "mlp", "hidden": [256]},
    "dataset": {"name": "digits"},
    "topology": {"name": "ring"},
    "algorithm": {"name": "sgp"},
    "outer": {"name": "none"},
    "optimizer": {"name": "sgd", "lr": 0.05},
    "schedule": {"name": "constant"},
    "training": {"epochs": 4, "batch_size": 32},
    "seed": 0,
    "world_size": 4,
}


def make_run(
    runs: Path,
    run_id: str,
    *,
    rows: Iterable[dict[str, Any]] | str | None = None,
    status: str | None = "completed",
    error: dict[str, Any] | None = None,
    name: str | None = None,
    **experiment: Any,
) -> Path:
    """Write a run folder.

    Args:
        rows: of metrics, or the file's very text; None: no file.
        status: None leaves out ``summary.json``.
        experiment: what differs from ``EXPERIMENT``.
    """
    folder = runs / run_id
    folder.mkdir(parents=True)
    chosen = {**EXPERIMENT, **experiment}
    name = name or f"{chosen['algorithm']['name']}-ring-4w-seed{chosen['seed']}"
    provenance = {
        "time": "2026-01-02T03:04:05+0000",
        "command": "sgp-train -m algorithm=sgp,dpsgd seed=1,2",
        "host": "node-1",
        "git": {"sha": "0123456789abcdef", "uncommitted": None},
    }
    spec = {"run_id": run_id, "name": name, "experiment": chosen, "provenance": provenance}
    (folder / "spec.json").write_text(json.dumps(spec))
    if status is not None:
        (folder / "summary.json").write_text(
            json.dumps({"run_id": run_id, "name": name, "status": status, "error": error})
        )
    if rows is not None:
        text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "metrics.jsonl").write_text(text)
    return folder


def make_rows(steps: int = 40, *, every: int = 4, epoch: int = 10, lift: float = 0.0) -> list[dict[str, Any]]:
    """Return rows of a run that learns: training rows every so many steps, validation rows every epoch."""
    rows: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        common = {"step": step, "epoch": step / epoch, "wall_time_s": step * 0.02, "bytes_sent": step * 1000}
        times = {"step_time_ms": 20.0, "compute_time_ms": 6.0, "comm_time_ms": 12.0}
        if step % every == 0:
            rows.append({**common, **times, "split": "train", "loss": 2.0 / step + lift, "consensus_distance": None})
        if step % epoch == 0:
            accuracy = 0.9 - 0.5 / step + lift
            rows.append(
                {
                    **common,
                    **times,
                    "split": "val",
                    "loss": 1.0 / step,
                    "accuracy": accuracy,
                    "consensus_distance": 0.01,
                }
            )
    return rows


def make_sweep(runs: Path, sweep: str, run_ids: Iterable[str]) -> Path:
    """Write the record of a sweep."""
    folder = runs / "sweeps" / sweep
    folder.mkdir(parents=True)
    points = [{"run_id": run_id, "name": run_id, "overrides": []} for run_id in run_ids]
    record = {
        "sweep_id": sweep,
        "command": "sgp-train -m algorithm=sgp,dpsgd seed=1,2",
        "created": "2026-01-02T03:04:05+0000",
        "points": points,
        "search": None,
    }
    (folder / "sweep.json").write_text(json.dumps(record))
    return folder
