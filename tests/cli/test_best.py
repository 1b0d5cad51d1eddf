"""One sweep has one winner: every command ranks its runs in the same way."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sgp_core.atomic_files import read_json, write_json
from tests.support.run_folders import make_run, make_sweep
from tests.support.sgp_command import Said

SWEEP = "abcd0000"
ROWS: Mapping[str, list[dict[str, float]]] = {
    "0000000000": [{"accuracy": 0.80, "loss": 0.5}, {"accuracy": 0.70, "loss": 0.3}],
    "1000000000": [{"accuracy": 0.82, "loss": 0.6}],
    "2000000000": [{"accuracy": 0.90, "loss": 0.1}],  # a lucky seed of the worse configuration
    "3000000000": [{"accuracy": 0.60, "loss": 0.9}],
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep of two algorithms over two seeds, whose best seed is not of the better algorithm."""
    for number, (run_id, rows) in enumerate(ROWS.items()):
        algorithm, seed = ("sgp", "dpsgd")[number // 2], number % 2
        rows = [{"split": "val", "step": 10 * step, **row} for step, row in enumerate(rows, start=1)]
        folder = make_run(tmp_path / "runs", run_id, rows=rows, algorithm={"name": algorithm}, seed=seed)
        summary = read_json(folder / "summary.json") or {}
        write_json(folder / "summary.json", {**summary, "best": rows[-1], "final": rows[-1]})
    make_sweep(tmp_path / "runs", SWEEP, ROWS)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def winners(sgp: Callable[..., Said], *options: str) -> dict[str, Any]:
    """Return what each command takes for the best run of the sweep, and for the score of its configuration."""
    table = sgp("table", SWEEP, "--json", *options).json["rows"]
    merged = sgp("table", SWEEP, "--mean", "--json", *options).json["rows"]
    report = sgp("report", SWEEP, "--format", "html", "--json", *options).json
    found = {
        "table": [row["run_id"] for row in table if row["winner"]],
        "first of the table": [table[0]["run_id"]],
        "first of the merged table": merged[0]["runs"][:1],
        "report": [run["run_id"] for run in report["runs"] if run["winner"]],
        "score": [next(row["best"] for row in merged if row["winner"])],
        "score of the report": [next(row["best"] for row in report["groups"] if row["winner"])],
    }
    if not options:
        best = sgp("status", SWEEP, "--json").json["best"]
        found |= {"status": [best["run_id"]], "score of the status": [best["value"]]}
    return found


@pytest.mark.parametrize(
    ("search", "options", "run_id", "score"),
    [
        (None, (), "1000000000", 0.81),
        (None, ("--metric", "loss"), "0000000000", 0.45),
        ({"metric": "loss", "direction": "minimize"}, (), "0000000000", 0.45),
        ({"metric": "accuracy", "direction": "minimize"}, (), "3000000000", 0.75),
        ({"metric": "loss", "direction": "maximize"}, ("--metric", "accuracy"), "1000000000", 0.81),
    ],
)
def test_every_command_names_the_same_winner(
    search: Any, options: tuple[str, ...], run_id: str, score: float, home: Path, sgp: Callable[..., Said]
) -> None:
    record = home / "sweeps" / SWEEP / "sweep.json"
    write_json(record, {**json.loads(record.read_text()), "search": search})
    for where, found in winners(sgp, *options).items():
        assert found == [pytest.approx(score) if "score" in where else run_id], where


def test_the_spread_is_the_sample_standard_deviation_everywhere(home: Path, sgp: Callable[..., Said]) -> None:
    std = pytest.approx(0.02 / 2**0.5)
    assert sgp("status", SWEEP, "--json").json["best"]["std"] == std
    assert sgp("table", SWEEP, "--mean", "--json").json["rows"][0]["spread"]["best"] == std
    assert sgp("report", SWEEP, "--format", "html", "--json").json["groups"][0]["spread"]["best"] == std
    page = (home / "sweeps" / SWEEP / "report" / "report.html").read_text()
    assert "± 0.0141 std of 2 seeds" in page
    assert "0.8100 ± 0.0141 std of 2 seeds" in sgp("status", SWEEP).out
    assert "0.8100 ± 0.0141" in sgp("table", SWEEP, "--mean").out
    assert "± std over seeds" in sgp("table", SWEEP, "--mean").out
