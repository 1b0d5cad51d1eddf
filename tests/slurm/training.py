"""``sgp-train`` on the tests' SLURM: submit in this process, look at what the jobs leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from launcher.cli.train import main
from launcher.runs.run_folder import RunFolder
from sgp_core.atomic_files import read_json
from tests.slurm.lab import Lab
from tests.support.waiting import wait_until

MEASURED = ("wall_time_s", "samples_per_s", "step_time_ms", "data_time_ms", "compute_time_ms", "comm_time_ms")
"""Of a row: what depends on the machine and not on the experiment."""


def train(*arguments: str) -> int:
    """Call ``sgp-train``."""
    return main(arguments)


def run_of(runs: Path) -> RunFolder:
    """Return the only run in a folder of runs."""
    [run] = [path for path in runs.iterdir() if path.name not in ("sweeps", "snapshots", "replaced")]
    return RunFolder(run)


def job_of(folder: RunFolder) -> str:
    """Return the job that a run was submitted as."""
    return str((read_json(folder.job) or {})["job_id"])


def until_status(folder: RunFolder, *statuses: str) -> dict[str, Any]:
    """Wait until ``summary.json`` has one of the statuses, and return it."""

    def reached() -> dict[str, Any] | None:
        summary = read_json(folder.summary) or {}
        return summary if summary.get("status") in statuses else None

    def what() -> str:
        return f"status {' or '.join(statuses)} (it is {read_json(folder.summary)}\n{logs(folder)})"

    found = wait_until(reached, what)
    assert found is not None
    return found


def until_step(folder: RunFolder, attempt: int, step: int) -> None:
    """Wait until an attempt has logged a row of this step or a later one."""
    progress = folder.progress(attempt)

    def reached() -> bool:
        return progress.exists() and any(row["step"] >= step for row in _rows(progress))

    wait_until(reached, lambda: f"step {step} of attempt {attempt} ({logs(folder)})")


def until_gone(lab: Lab, folder: RunFolder) -> None:
    """Wait until SLURM has finished with a run's job."""
    lab.wait(job_of(folder), "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")


def rows(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the metrics of a run, less what was measured by a clock."""
    return [{key: row[key] for key in row if key not in MEASURED} for row in _rows(folder.metrics)]


def weights(folder: RunFolder) -> bytes:
    """Return the exported model, to the byte."""
    return (folder.path / "model.safetensors").read_bytes()


def shards(folder: RunFolder) -> dict[str, Any]:
    """Return the tensors of every worker's state in the last checkpoint, as bytes."""
    import torch

    last = max(folder.path.glob("checkpoints/step-*"), key=lambda path: int(path.name.removeprefix("step-")))
    found = {}
    for path in sorted(last.glob("rank-*.pt")):
        for name, value in _flat(torch.load(path, weights_only=True)):
            if "/report/" not in name and not name.endswith("/seconds"):  # those hold times
                found[f"{path.name}{name}"] = value.numpy().tobytes() if isinstance(value, torch.Tensor) else value
    return found


def logs(folder: RunFolder) -> str:
    """Return the ends of all logs of a run."""
    job = read_json(folder.job) or {}
    paths = sorted(Path(job.get("folder", folder.path / "logs")).rglob(f"{job.get('job_id')}*_log.out"))
    return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in paths)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [found for key in value for found in _flat(value[key], f"{name}/{key}")]
    if isinstance(value, list | tuple):
        return [found for key, item in enumerate(value) for found in _flat(item, f"{name}/{key}")]
    return [(name, value)]
