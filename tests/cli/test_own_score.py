"""A task without an accuracy: its own score is what summary, lists, tables and reports show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.launched import Said
from tests.support.run_folders import make_rows, make_run
from tests.support.sgp_command import Said as Answer

REGRESSION = ("dataset=diabetes", "model=linear", "cluster=inline", "tracker=none", "training.max_steps=3")


def test_the_score_of_the_task_is_shown_everywhere(
    sgp_train: Callable[..., Said], sgp: Callable[..., Answer], here: Path
) -> None:
    trained = sgp_train("-m", "seed=1,2", *REGRESSION)
    assert trained.code == 0, trained.err
    assert "validation R²" in trained.out
    listed = sgp("runs", "--sort", "r2", "--json").json
    assert [run["score_name"] for run in listed] == ["r2", "r2"]
    assert listed[0]["score"] >= listed[1]["score"]
    assert "  R² " in sgp("show", listed[0]["run_id"]).out
    table = sgp("table", "--sort", "r2", "--json").json
    assert (table["metric"], table["better"]) == ("r2", "higher")
    assert [row["run_id"] for row in table["rows"]] == [run["run_id"] for run in listed]
    assert " r2 " in sgp("table").out.splitlines()[1]
    make_run(here / "runs", "9000000000", rows=make_rows(40))  # of another task
    scores = [line.partition("completed")[2] for line in sgp("list").out.splitlines()[1:]]
    assert ["  R² " in line for line in scores] == ["accuracy" not in line for line in scores]
    assert sum("  accuracy 0.8875  " in line for line in scores) == 1
    assert sgp("report", *(run["run_id"] for run in listed), "--format", "html", "--out", here).code == 0
    [page] = here.glob("*.html")
    assert "R²" in page.read_text(encoding="utf-8")
