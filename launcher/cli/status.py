"""``sgp status``: how a run or a sweep stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from launcher.cli.json_output import print_json
from launcher.cli.options import RUNS_DIR, JsonOption, RunsDirOption, complete_targets
from launcher.cli.run_details import details, lines
from launcher.cli.run_fields import facts, shown
from launcher.cli.runs import COLUMNS, RIGHT, cells, print_notes
from launcher.cli.table_printing import clean, print_table
from launcher.runs.find import Run, Sweep, again, all_runs, find, members
from launcher.runs.json_fields import mapping, text
from launcher.runs.liveness import LIVE, STATES, Observer
from launcher.runs.metric_rows import lower_is_better, score, usual_metric
from sgp_core.errors import ConfigurationError

WRONG = ("failed", "lost", "damaged")
"""What makes the exit code 1."""


@dataclass(frozen=True)
class View:
    """What is shown: one run in all detail, or several in a line each."""

    runs: Sequence[Run]
    title: str
    """Of several runs."""
    sweep: Sweep | None = None
    single: bool = False

    def heading(self) -> list[str]:
        """Return what comes before the lines of the runs."""
        if self.single:
            return list(lines(self.runs[0]))
        heading = [clean(f"{self.title}: {counted(self.runs)}")]
        if self.sweep is not None and (leader := winner(self.sweep, self.runs)):
            run, metric, value = leader
            heading.append(f"best {metric} so far: {shown(value)}, {clean(run.name)} ({run.run_id})")
        return heading

    def as_json(self) -> Any:
        """Return the same as plain data."""
        if self.single:
            return details(self.runs[0])
        runs = [{**facts(run), "error": run.error} for run in self.runs]
        if self.sweep is None:
            return {"runs": runs}
        leader = winner(self.sweep, self.runs)
        best = None if leader is None else {"run_id": leader[0].run_id, "metric": leader[1], "value": leader[2]}
        states = dict(Counter(run.state for run in self.runs))
        return {"sweep_id": self.sweep.sweep_id, "states": states, "best": best, "runs": runs}


def status(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|SWEEP]", help="Its id or name; by default all that live.", autocompletion=complete_targets
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay until all have ended.")] = False,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = RUNS_DIR,
) -> None:
    """Show how a run or a sweep stands. Exit code 1 if a run has failed, is lost or damaged."""
    if watch and as_json:
        raise ConfigurationError("--watch shows how things change, --json how they are: choose one")
    observer = Observer(patience_s=1.5, max_age_s=5.0)
    look = _look_at(target, runs_dir, observer)
    view = look()
    if watch:
        from launcher.cli.watch import stay

        view = stay(look, view)
    elif as_json:
        print_json(view.as_json())
    else:
        show(view)
    if target is not None and any(run.state in WRONG for run in view.runs):
        raise typer.Exit(1)


def show(view: View) -> None:
    """Print a view."""
    for line in view.heading():
        print(line)
    if not view.single and view.runs:
        print_table(COLUMNS, [cells(run) for run in view.runs], right=RIGHT)
        print_notes(view.runs)
        for run in view.runs:
            if run.error is not None:
                message = f"{run.error['type']}: {run.error['message']}"
                print(clean(f"{run.run_id} failed: {message}; sgp logs {run.run_id}"))


def counted(runs: Sequence[Run]) -> str:
    """Return how many runs are in which state."""
    states = Counter(run.state for run in runs)
    told = ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
    return f"{len(runs)} run{'s' if len(runs) != 1 else ''}{', ' if told else ''}{told}"


def winner(sweep: Sweep, runs: Sequence[Run]) -> tuple[Run, str, float] | None:
    """Return the run of a sweep that is best so far, by what, and how good it is."""
    search = mapping(sweep.record.get("search"))
    metric = text(search.get("metric")) or usual_metric(run.last_rows.get("val", {}) for run in runs)
    direction = text(search.get("direction"))
    smallest = direction == "minimize" if direction else lower_is_better(metric)
    scored = []
    for run in runs:
        best, final = mapping(run.summary.get("best")), mapping(run.summary.get("final"))
        values = [score(row, metric) for row in (best, final, run.last_rows.get("val", {}))]
        scored += [(run, value) for value in values if value is not None][:1]
    if not scored:
        return None
    run, value = (min if smallest else max)(scored, key=lambda pair: pair[1])
    return run, metric, value


def _look_at(target: str | None, runs_dir: Path, observer: Observer) -> Callable[[], View]:
    """Return what looks at what is meant, as often as it is called."""
    if target is None:
        live = [run for run in all_runs(runs_dir, observer) if run.state in LIVE]
        return lambda: View([again(run, observer) for run in live], f"live in {runs_dir}")
    found = find(target, runs_dir, observer)
    if isinstance(found, Run):
        run = found
        return lambda: View([again(run, observer)], run.run_id, single=True)
    sweep = found
    return lambda: View(members(sweep, observer), f"sweep {sweep.sweep_id}", sweep)
