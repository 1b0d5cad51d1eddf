"""All details of one run, as plain data and in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher.cli.run_fields import facts, iso_time, last_sign_age, progress, score_of, where
from launcher.cli.table_printing import align
from launcher.console.summary import relative
from launcher.runs.find import Run
from launcher.runs.json_fields import mapping, number, text, whole
from launcher.runs.membership import count_replacements
from launcher.runs.metric_rows import Row
from launcher.runs.number_format import duration, format_value, milliseconds, plain
from launcher.runs.plain_text import clean
from launcher.runs.scores import read_scores, score_in
from sgp_core.metrics import find_metric


def details(run: Run) -> dict[str, Any]:
    """Return all details of a run as plain data."""
    return {
        **facts(run),
        "attempt": run.attempt,
        "eta_s": eta(run),
        "wall_time_s": _wall_time(run),
        "virtual_time_s": number(_latest(run, "virtual_time_s")),
        "world_size": run.world_size,
        "replacements": count_replacements(run.folder),
        "workers": [_worker(rank, dict(report)) for rank, report in run.workers.items()],
        "train": run.last_rows.get("train"),
        "val": run.last_rows.get("val"),
        "best": run.summary.get("best"),
        "time_per_step_ms": time_split(run),
        "checkpoints": checkpoints(run),
        "error": run.error,
    }


def lines(run: Run) -> Iterator[str]:
    """Yield the details in words: the run, its workers, its error."""
    yield clean(f"{run.name} ({run.run_id}): {run.state}{', ' + run.note if run.note else ''}")
    for title, value in _facts(run):
        yield clean(f"  {title:<20} {value}")
    if run.workers:
        yield ""
        reports = [_worker(rank, dict(report)) for rank, report in run.workers.items()]
        rows = [[str(one[key]) if one[key] is not None else "-" for key in _COLUMNS] for one in reports]
        yield from (f"  {line}" for line in align(_COLUMNS, rows, right=("rank", "pid")))
    if run.error is not None:
        yield ""
        yield from _error_lines(run.error)


def eta(run: Run) -> float | None:
    """Return the seconds left at the pace so far, evaluations included; None if that is not known."""
    newest = max(run.last_rows.values(), key=lambda row: whole(row.get("step")) or 0, default={})
    step, spent, total = whole(newest.get("step")), number(newest.get("wall_time_s")), run.total_steps
    if run.state != "running" or not step or spent is None or not total:
        return None
    return max(0.0, (total - step) * spent / step)


def time_split(run: Run) -> dict[str, float] | None:
    """Return the time of a step at rank 0 and its parts, in milliseconds; None if it was not measured."""
    row = run.last_rows.get("train", {})
    total, compute, communication = (number(row.get(f"{part}_time_ms")) for part in ("step", "compute", "comm"))
    if total is None or compute is None or communication is None:
        return None
    data = max(0.0, total - compute - communication)
    return {"total": total, "data": data, "compute": compute, "communication": communication}


def checkpoints(run: Run) -> list[int]:
    """Return the steps of complete checkpoints."""
    names = [path.parent.name for path in run.folder.path.glob("checkpoints/step-*/manifest.json")]
    return sorted(int(name[5:]) for name in names if re.fullmatch(r"step-\d{1,15}", name))


_COLUMNS = ("rank", "status", "host", "pid", "said")


def _worker(rank: int, report: dict[str, Any]) -> dict[str, Any]:
    return {
        "rank": rank,
        "status": report.get("status"),
        "host": text(report.get("node")) or text(report.get("host")),
        "pid": whole(report.get("pid")),
        "said": iso_time(number(report.get("time"))),
    }


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    left = eta(run)
    yield "step", progress(run) + (f", about {duration(left)} left" if left is not None else "")
    workers = f"{run.world_size} worker{'s' if run.world_size != 1 else ''}" if run.world_size else "? workers"
    yield "where", f"{where(run)}, {workers}, attempt {run.attempt}"
    if replacements := count_replacements(run.folder):
        yield "replaced workers", str(replacements)
    yield "last change", f"{last_sign_age(run)} ago"
    if (spent := _wall_time(run)) is not None:
        yield "training time", duration(spent)
    if (reached := number(_latest(run, "virtual_time_s"))) is not None:
        yield "virtual time", duration(reached)
    for title, row in (("loss", run.last_rows.get("train", {})), ("validation loss", run.last_rows.get("val", {}))):
        if (loss := number(row.get("loss"))) is not None:
            yield title, f"{plain(loss)} at step {whole(row.get('step')) or '?'}"
    yield from _scores(run)
    if (distance := number(_latest(run, "consensus_distance"))) is not None:
        metric = find_metric("consensus_distance")
        yield metric.label, format_value(metric, distance)
    if parts := time_split(run):
        shares = " + ".join(f"{name} {milliseconds(parts[name])}" for name in ("data", "compute", "communication"))
        yield "time per step", f"{milliseconds(parts['total'])} ms = {shares}"
    if saved := checkpoints(run):
        yield "checkpoints", f"step {', '.join(map(str, saved))}"
    if extends := mapping(run.experiment.get("extends")):
        yield "extends", f"step {extends.get('step')} of run {extends.get('run')}"
    if run.sweep:
        yield "sweep", run.sweep + (f", its point {run.point}" if run.point else "")
    yield "run folder", relative(run.folder.path)


def _scores(run: Run) -> Iterator[tuple[str, str]]:
    """Return every score of the latest evaluation; for the one that ranks the run, also its best value."""
    row = run.last_rows.get("val") or mapping(run.summary.get("final"))
    ranking, _ = score_of(run)
    best = mapping(run.summary.get("best"))
    for metric, value in read_scores(run.spec).values_in(row):
        best_value, step = score_in(best, metric.name), whole(best.get("step"))
        at_best = ""
        if metric == ranking and best_value is not None and step is not None:
            at_best = f" (best {format_value(metric, best_value)} at step {step})"
        yield metric.label, f"{format_value(metric, value)}{at_best}"


def _error_lines(error: Any) -> Iterator[str]:
    who = "it failed" if error.get("rank") is None else f"worker {error['rank']} failed"
    yield f"{who}: {clean(str(error.get('type')))}: {clean(str(error.get('message')))}"
    for line in str(error.get("traceback") or "").rstrip().splitlines():
        yield f"  {clean(line)}"
    if error.get("log"):
        yield f"its log: {clean(relative(Path(str(error['log']))))}"


def _latest(run: Run, key: str) -> Any:
    rows: list[Row] = sorted(run.last_rows.values(), key=lambda row: whole(row.get("step")) or 0)
    return next((row[key] for row in reversed(rows) if row.get(key) is not None), None)


def _wall_time(run: Run) -> float | None:
    return number(run.summary.get("wall_time_s")) if run.state == "completed" else number(_latest(run, "wall_time_s"))
