"""``sgp status``: the state of a run or of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.json_output import print_json
from launcher.cli.options import RUNS_DIR, JsonOption, RunsDirOption, complete_targets
from launcher.cli.status_view import View, show
from launcher.runs.find import Run, all_runs, find, members, reread
from launcher.runs.liveness import LIVE, Observer
from sgp_core.errors import ConfigurationError

WRONG = ("failed", "lost", "damaged")
"""The states of a run that make the exit code 1."""


def status(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|SWEEP]", help="Id or name; by default all live runs.", autocompletion=complete_targets
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay until all runs have ended.")] = False,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = RUNS_DIR,
) -> None:
    """Show the state of a run or a sweep. Exit code 1 if a run has failed, is lost or damaged."""
    if watch and as_json:
        raise ConfigurationError("--watch follows changes, --json prints one state: choose one of them")
    observer = Observer(patience_s=1.5, max_age_s=5.0)
    look = _look_at(target, runs_dir, observer)
    view = look()
    if watch:
        from launcher.cli.watch import follow

        view = follow(look, view)
    elif as_json:
        print_json(view.as_json())
    else:
        show(view)
    if target is not None and any(run.state in WRONG for run in view.runs):
        raise typer.Exit(1)


def _look_at(target: str | None, runs_dir: Path, observer: Observer) -> Callable[[], View]:
    """Return a function that reads the runs anew each time."""
    if target is None:
        live = [run for run in all_runs(runs_dir, observer) if run.state in LIVE]
        return lambda: View([reread(run, observer) for run in live], f"live in {runs_dir}")
    found = find(target, runs_dir, observer)
    if isinstance(found, Run):
        run = found
        return lambda: View([reread(run, observer)], run.run_id, single=True)
    sweep = found
    return lambda: View(members(sweep, observer), f"sweep {sweep.sweep_id}", sweep)
