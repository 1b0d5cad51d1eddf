"""What ``sgp status`` shows: one run in all detail, or several in a line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launcher.cli.run_details import details, lines
from launcher.cli.run_fields import facts, shown
from launcher.cli.runs import COLUMNS, RIGHT, cells, print_notes
from launcher.cli.table_printing import clean, print_table
from launcher.runs.find import Run, Sweep
from launcher.runs.json_fields import mapping, text
from launcher.runs.liveness import STATES
from launcher.runs.metric_rows import lower_is_better, score, usual_metric


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
