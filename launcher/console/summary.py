"""What ``sgp-train`` prints when a run has ended."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from launcher.runs.json_fields import items, mapping, number, text, whole
from launcher.runs.number_format import format_value
from launcher.runs.plain_text import clean
from launcher.runs.run_folder import RunFolder
from launcher.runs.scores import read_scores, score_in
from sgp_core.atomic_files import read_json
from sgp_core.metrics import find_metric

Summary = dict[str, Any]


def print_complete(summary: Summary, run_dir: Path, label: str = "") -> None:
    """Print that a run is complete, so that there is nothing to do, and how it ended.

    Args:
        label: number and title of the run among those of a command.
    """
    print(clean(f"{label or text(summary.get('name')) or run_dir.name} is complete already; nothing to do"))
    if not label:
        print_summary(summary, run_dir)


def print_summary(summary: Summary, run_dir: Path, label: str = "") -> None:
    """Print the status of a run, its scores, consensus distance, time per step and folder.

    Args:
        label: number and title of the run among those of a command.
    """
    seconds = number(summary.get("wall_time_s"))
    took = f" in {seconds:.1f} s" if seconds is not None else ""
    name, status = label or text(summary.get("name")) or run_dir.name, text(summary.get("status"))
    print(clean(f"{name} ({run_dir.name}): {status}, {whole(summary.get('steps')) or 0} steps{took}"))
    for title, value in _facts(summary, run_dir):
        print(clean(f"  {title:<20} {value}"))
    sys.stdout.flush()


def print_error(error: dict[str, Any]) -> None:
    """Print on stderr why a run failed: traceback and log of the worker at fault; for a user's mistake, one line."""
    if error.get("user_mistake"):
        print(f"sgp-train: {error['message']}", file=sys.stderr)
        return
    if error.get("traceback"):
        print(str(error["traceback"]).rstrip(), file=sys.stderr)
    print(f"sgp-train: worker {error['rank']} failed: {error['type']}: {error['message']}", file=sys.stderr)
    if error.get("log"):
        print(f"sgp-train: its log: {relative(Path(error['log']))}", file=sys.stderr)


def print_warnings(folder: RunFolder, attempt: int, world_size: int) -> None:
    """Print on stderr what the workers have warned of in an attempt, each warning once."""
    reports = [read_json(folder.rank(rank)) or {} for rank in range(world_size)]
    lines = [line for report in reports if report.get("attempt") == attempt for line in items(report.get("warnings"))]
    for line in dict.fromkeys(filter(text, lines)):
        print(f"warning: {clean(line)}", file=sys.stderr)


def relative(path: Path) -> str:
    """Return ``path`` relative to the working directory if it lies below it."""
    short = os.path.relpath(path)
    return str(path) if short.startswith("..") else short


def _facts(summary: Summary, run_dir: Path) -> list[tuple[str, str]]:
    final, best = mapping(summary.get("final")), mapping(summary.get("best"))
    facts = []
    scores = read_scores(read_json(RunFolder(run_dir).spec) or {})
    for metric, value in scores.values_in(final):
        whose = "averaged model" if final.get(metric.name) is not None else "mean of the replicas"
        at_best, step = score_in(best, metric.name), whole(best.get("step"))
        when = f"; best {format_value(metric, at_best)} at step {step}" if at_best is not None else ""
        facts.append((f"validation {metric.label}", f"{format_value(metric, value)} ({whose}{when})"))
    for split, measured in ((name, mapping(row)) for name, row in mapping(summary.get("test")).items()):
        remarks = "".join(f" ({value})" for value in measured.values() if isinstance(value, str))
        for metric, value in scores.values_in(measured):
            facts.append((f"{split} {metric.label}", f"{format_value(metric, value)}{remarks}"))
    for metric in map(find_metric, ("consensus_distance", "virtual_time_s")):
        if (at_last := number(final.get(metric.name))) is not None:
            facts.append((metric.label, format_value(metric, at_last)))
    if number(final.get("step_time_ms")) is not None:
        parts = (number(final.get(f"{part}_time_ms")) or 0.0 for part in ("step", "compute", "comm"))
        total, compute, communication = parts
        data = max(0.0, total - compute - communication)
        split = f"data {data:.2f} + compute {compute:.2f} + communication {communication:.2f}"
        facts.append(("time per step", f"{total:.2f} ms = {split}"))
    facts.append(("run folder", relative(run_dir)))
    folder = relative(run_dir)
    sync = f"sgp sync {shlex.quote(folder if '/' in folder else f'./{folder}')}"
    if summary.get("mirror_error"):
        facts.append(("W&B is incomplete", f"{summary['mirror_error']}; {sync} uploads the whole record"))
    elif summary.get("sync_command"):
        facts.append(("upload to W&B", sync))
    return facts
