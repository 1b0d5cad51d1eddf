"""``sgp runs``: a table of all runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from launcher.cli.json_output import print_json
from launcher.cli.options import (
    RUNS_DIR,
    JsonOption,
    RunsDirOption,
    StateOption,
    complete_conditions,
    complete_sweeps,
    states,
)
from launcher.cli.run_fields import facts, loss_of, score_of
from launcher.cli.run_table import print_runs
from launcher.runs.find import Run, all_runs, find_sweep, members
from launcher.runs.json_fields import mapping, number
from launcher.runs.metric_rows import Row
from launcher.runs.scores import common_scores, score_in
from launcher.runs.settings import Condition, all_settings, format_setting, nearest
from sgp_core.errors import ConfigurationError
from sgp_core.metrics import Metric

_KEYS: dict[str, Callable[[Run], Any]] = {
    "created": lambda run: -run.created,
    "seen": lambda run: -(run.last_sign or 0.0),
    "state": lambda run: run.state,
    "name": lambda run: run.name,
    "step": lambda run: -run.step,
    "loss": loss_of,
    "score": lambda run: _best_first(*score_of(run)),
}
"""The keys of ``--sort``: the newest, the furthest and the best runs come first."""


def runs(
    state: StateOption = None,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="KEY=VALUE",
            help="Only those with this setting, such as algorithm=sgp; KEY!=VALUE: without it.",
            autocompletion=complete_conditions,
        ),
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option("--sweep", metavar="SWEEP", help="Only those of a sweep.", autocompletion=complete_sweeps),
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            metavar="KEY",
            help=f"By {', '.join(_KEYS)}, a setting such as optimizer.lr, or anything measured such as accuracy.",
            autocompletion=lambda incomplete: [key for key in _KEYS if key.startswith(incomplete)],
        ),
    ] = "created",
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first so many.")] = None,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = RUNS_DIR,
) -> None:
    """List runs, the newest first."""
    wanted = states(state)
    found = members(find_sweep(sweep, runs_dir)) if sweep else all_runs(runs_dir)
    there = len(found)
    found = [run for run in _matching(found, conditions or []) if wanted is None or run.state in wanted]
    found = _sort(found, sort)[:limit]
    if as_json:
        print_json([facts(run) for run in found])
        return
    if not found:
        print(f"no run matches ({there} runs in {runs_dir})" if there else f"no runs in {runs_dir}")
        return
    print_runs(found)


def _matching(found: Sequence[Run], conditions: Sequence[str]) -> list[Run]:
    read = [Condition(text) for text in conditions]
    settings = {run.run_id: all_settings(run.spec) for run in found} if read else {}
    known = {key for each in settings.values() for key in each}
    for condition in read:
        condition.check(known)
    return [run for run in found if all(condition.holds(settings[run.run_id]) for condition in read)]


def _sort(found: Sequence[Run], key: str) -> list[Run]:
    """Sort runs; those without a value to sort by come last."""
    by = _KEYS.get(key) or _by_measure(found, key) or _by_setting(found, key)
    values = [(by(run), run) for run in found]
    known = sorted((pair for pair in values if pair[0] is not None), key=lambda pair: pair[0])
    return [run for _, run in known] + [run for value, run in values if value is None]


def _by_measure(found: Sequence[Run], key: str) -> Callable[[Run], Any] | None:
    """Return a sort key for the latest value of a metric, the best first; None if no run has measured it."""
    values = {
        run.run_id: next((value for row in _latest(run) if (value := score_in(row, key)) is not None), None)
        for run in found
    }
    if all(value is None for value in values.values()):
        return None
    metric = common_scores([run.spec for run in found]).find(key)
    return lambda run: _best_first(metric, values[run.run_id])


def _latest(run: Run) -> list[Row]:
    """Return the rows that hold the latest values of a run, the first that has one counts."""
    return [run.last_rows.get("val", {}), mapping(run.summary.get("final")), run.last_rows.get("train", {})]


def _by_setting(found: Sequence[Run], key: str) -> Callable[[Run], Any]:
    """Return a sort key for a setting: numbers by size, before words.

    Raises:
        ConfigurationError: no run has such a setting.
    """
    settings = {run.run_id: all_settings(run.spec) for run in found}
    known = {name for each in settings.values() for name in each}
    if found and key not in known:
        measured = {name for run in found for row in _latest(run) for name in row}
        raise ConfigurationError(f"--sort {key}: no run has that{nearest(key, {*known, *_KEYS, *measured})}")

    def by(run: Run) -> Any:
        value = settings[run.run_id].get(key)
        size = number(value)
        return None if value is None else (size is None, size or 0.0, format_setting(value))

    return by


def _best_first(score: Metric | None, value: float | None) -> float | None:
    return value if value is None or score is None or score.lower_is_better else -value
