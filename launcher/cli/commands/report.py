"""``sgp report``: runs or a sweep as one HTML page, and its charts as figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.json_output import print_json
from launcher.cli.options import RUNS_DIR, JsonOption, RunsDirOption, TargetArguments
from launcher.console.summary import relative
from launcher.report.axis import Axis
from launcher.runs.ranking import choose_objective, rank
from sgp_core.errors import ConfigurationError, did_you_mean

FORMATS = ("html", "png", "svg")


def report(
    targets: TargetArguments,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to; by default in that of the run or sweep, or, for several runs, here."),
    ] = None,
    formats: Annotated[str, typer.Option("--format", help="What to write: html, png, svg.")] = ",".join(FORMATS),
    metric: Annotated[
        str | None,
        typer.Option(help="Metric that ranks the runs; by default the search's, else the task's score."),
    ] = None,
    x: Annotated[Axis, typer.Option(help="What curves are drawn over (the page can change it).")] = Axis.step,
    as_json: JsonOption = False,
    runs_dir: RunsDirOption = Path(RUNS_DIR),
) -> None:
    """Draw runs as one HTML page and as figures.

    They show curves, the time per step and a table of results.
    """
    kinds = _formats(formats)
    from launcher.report.panels import curves_of, make_panels
    from launcher.report.record import read_record
    from launcher.report.report import make_report
    from launcher.report.selection import origin, select
    from launcher.report.table_rows import row_as_json
    from launcher.report.write import save

    selection = select(targets, runs_dir)
    objective = choose_objective(selection.runs, metric, selection.sweep.get("search"))
    wanted = curves_of(make_panels(objective))
    records = [read_record(run, wanted) for run in selection.runs]
    made = make_report(selection.kind, records, rank(selection.runs, objective), x, origin(selection, records))
    folder = out or selection.folder
    try:
        files = save(made, folder, kinds)
    except OSError as error:
        raise ConfigurationError(f"cannot write the report to {folder}: {error.strerror or error}") from error
    if as_json:
        content = {
            "files": files,
            "metric": objective.name,
            "runs": [row_as_json(row) for row in made.runs],
            "groups": [row_as_json(row) for row in made.merged] if made.seeds else [],
            "timelines": {
                record.run_id: {**asdict(record.timeline), "remarks": record.timeline.remarks()}
                for record in records
                if record.timeline is not None
            },
        }
        print_json(content)
        return
    for path in files:
        print(relative(path))
    for record in records:
        for remark in record.timeline.remarks() if record.timeline is not None else ():
            print(f"{record.run_id}: {remark}")


def _formats(given: str) -> Sequence[str]:
    wanted = [word.strip() for word in given.split(",") if word.strip()]
    for word in wanted:
        if word not in FORMATS:
            raise ConfigurationError(f"--format {word}: no such format{did_you_mean(word, FORMATS)}")
    if not wanted:
        raise ConfigurationError(f"--format needs at least one of {', '.join(FORMATS)}")
    return wanted
