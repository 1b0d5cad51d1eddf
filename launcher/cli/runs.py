"""``sgp runs``: a table of all runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
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
from launcher.cli.run_fields import facts, loss_of, progress, score_of, seen, shown, stands, where
from launcher.cli.table_printing import print_table
from launcher.runs.find import Run, all_runs, find_sweep, members
from launcher.runs.json_fields import number
from launcher.runs.metric_rows import lower_is_better
from launcher.runs.settings import Condition, all_settings, nearest, written
from sgp_core.errors import ConfigurationError

COLUMNS = ("run", "name", "state", "step", "loss", "score", "seen", "where")
RIGHT = ("step", "loss", "score", "seen")

_KEYS: dict[str, Callable[[Run], Any]] = {
    "created": lambda run: -run.created,
    "seen": lambda run: -(run.last_sign or 0.0),
    "state": lambda run: run.state,
    "name": lambda run: run.name,
    "step": lambda run: -run.step,
    "loss": loss_of,
    "score": lambda run: _best_first(*score_of(run)),
}
"""What runs can be sorted by, so that what one looks for comes first."""


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
            help=f"By {', '.join(_KEYS)}, or a setting such as optimizer.lr.",
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
    found = [run for run in _chosen(found, conditions or []) if wanted is None or run.state in wanted]
    found = _sorted(found, sort)[:limit]
    if as_json:
        print_json([facts(run) for run in found])
        return
    if not found:
        print(f"none of {there} runs in {runs_dir} is meant" if there else f"no runs in {runs_dir}")
        return
    print_table(COLUMNS, [cells(run) for run in found], right=RIGHT)
    print_notes(found)


def cells(run: Run) -> list[str]:
    """Return a run's line."""
    _, score = score_of(run)
    return [run.run_id, run.name, stands(run), progress(run), shown(loss_of(run)), shown(score), seen(run), where(run)]


def print_notes(found: Collection[Run]) -> None:
    """Say which states are only what files say."""
    notes = [f"{run.run_id}: {run.note}" for run in found if not run.verified]
    for note in notes[:3]:
        print(note)
    if len(notes) > 3:
        print(f"... and {len(notes) - 3} more runs that were not checked")


def _chosen(found: Sequence[Run], conditions: Sequence[str]) -> list[Run]:
    read = [Condition(text) for text in conditions]
    settings = {run.run_id: all_settings(run.spec) for run in found} if read else {}
    known = {key for each in settings.values() for key in each}
    for condition in read:
        condition.check(known)
    return [run for run in found if all(condition.holds(settings[run.run_id]) for condition in read)]


def _sorted(found: Sequence[Run], key: str) -> list[Run]:
    """Sort runs; those that have nothing to be sorted by come last."""
    by = _KEYS.get(key) or _by_setting(found, key)
    values = [(by(run), run) for run in found]
    known = sorted((pair for pair in values if pair[0] is not None), key=lambda pair: pair[0])
    return [run for _, run in known] + [run for value, run in values if value is None]


def _by_setting(found: Sequence[Run], key: str) -> Callable[[Run], Any]:
    """Return what sorts by a setting: numbers by size and before words.

    Raises:
        ConfigurationError: no run has such a setting.
    """
    settings = {run.run_id: all_settings(run.spec) for run in found}
    known = {name for each in settings.values() for name in each}
    if found and key not in known:
        raise ConfigurationError(f"--sort {key}: no run has that{nearest(key, {*known, *_KEYS})}")

    def by(run: Run) -> Any:
        value = settings[run.run_id].get(key)
        size = number(value)
        return None if value is None else (size is None, size or 0.0, written(value))

    return by


def _best_first(name: str | None, value: float | None) -> float | None:
    return value if value is None or lower_is_better(name or "") else -value
