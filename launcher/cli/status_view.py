"""The views of ``sgp status``: one run in all detail, or several runs in a line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launcher.cli.run_details import details, lines
from launcher.cli.run_fields import facts
from launcher.cli.run_table import print_runs
from launcher.runs.find import Run, Sweep
from launcher.runs.liveness import STATES
from launcher.runs.number_format import format_sample
from launcher.runs.plain_text import clean
from launcher.runs.ranking import choose_objective, rank
from launcher.runs.seeds import Sample
from sgp_core.metrics import Metric


@dataclass(frozen=True)
class View:
    """One run in all detail, or several runs in a line each.

    Attributes:
        title: of several runs.
        sweep: the sweep whose runs they are.
        single: whether the one run is shown in all detail.
    """

    runs: Sequence[Run]
    title: str
    sweep: Sweep | None = None
    single: bool = False

    def heading(self) -> list[str]:
        """Return the lines above the table of runs; for a single run all that is shown."""
        if self.single:
            return list(lines(self.runs[0]))
        heading = [clean(f"{self.title}: {count_states(self.runs)}")]
        if self.sweep is not None and (leader := best_run(self.sweep, self.runs)):
            run, objective, score = leader
            value = format_sample(objective, score.mean, score.std, score.count)
            heading.append(clean(f"best {objective.label} so far: {value}, {run.name} ({run.run_id})"))
        return heading

    def as_json(self) -> Any:
        """Return the same as plain data."""
        if self.single:
            return details(self.runs[0])
        runs = [{**facts(run), "error": run.error} for run in self.runs]
        if self.sweep is None:
            return {"runs": runs}
        best = None
        if leader := best_run(self.sweep, self.runs):
            run, objective, score = leader
            best = {"run_id": run.run_id, "metric": objective.name, "value": score.mean}
            best |= {"std": score.std, "seeds": score.count}
        states = dict(Counter(run.state for run in self.runs))
        return {"sweep_id": self.sweep.sweep_id, "states": states, "best": best, "runs": runs}


def show(view: View) -> None:
    """Print a view."""
    for line in view.heading():
        print(line)
    if not view.single and view.runs:
        print_runs(view.runs)
        for run in view.runs:
            if run.error is not None:
                message = f"{run.error['type']}: {run.error['message']}"
                print(clean(f"{run.run_id} failed: {message}; sgp logs {run.run_id}"))


def count_states(runs: Sequence[Run]) -> str:
    """Return how many runs there are, and how many in each state."""
    states = Counter(run.state for run in runs)
    parts = ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
    return f"{len(runs)} run{'s' if len(runs) != 1 else ''}{', ' if parts else ''}{parts}"


def best_run(sweep: Sweep, runs: Sequence[Run]) -> tuple[Run, Metric, Sample] | None:
    """Return the best run of a sweep so far, the metric that ranks it, and its configuration's score over seeds."""
    objective = choose_objective(runs, search=sweep.record.get("search"))
    best = rank(runs, objective).best
    if best is None or best.score is None:
        return None
    return runs[best.runs[0]], objective, best.score
