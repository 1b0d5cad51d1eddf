"""Runs whose model, data set, algorithm and task are not known here: their folders say all that commands need."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.config.make_plan import make_plan
from sgp_core.atomic_files import read_json, write_json
from sgp_core.metrics import LOSS, Direction, Metric
from tests.support.command_line import composed
from tests.support.run_folders import make_sweep
from tests.support.run_states import completed_run, failed_run
from tests.support.sgp_command import Said

Sgp = Callable[..., Said]

COMPLETED, FAILED, SWEEP = "a000000000", "b000000000", "abcd0000"
ERROR = Metric("squared_error", Direction.minimize)
UNKNOWN = {"model": "lost_net", "dataset": "lost_data", "algorithm": "lost_rule"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep of a completed and a failed run, by a plug-in that is gone."""
    monkeypatch.chdir(tmp_path)
    spec = make_plan(composed("cluster=local", "cluster.workers_per_node=4")).spec()
    experiment = {**spec["experiment"], **{group: {"name": name} for group, name in UNKNOWN.items()}}
    experiment["model"]["width"] = 3
    metrics = {"score": ERROR.name, "scores": [LOSS.to_dict(), ERROR.to_dict()]}
    for run_id, make, error in ((COMPLETED, completed_run, 2.0), (FAILED, failed_run, 3.0)):
        folder = make(tmp_path / "runs", run_id)
        experiment["optimizer"] = {**experiment["optimizer"], "lr": error}
        rewrite(folder / "spec.json", **{**spec, "experiment": experiment, "metrics": metrics, "run_id": run_id})
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        scored = [{**row, ERROR.name: error + 1 / row["step"]} if row["split"] == "val" else row for row in rows]
        for row in scored:
            row.pop("accuracy", None)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scored))
        rewrite(folder / "summary.json", best=scored[-1], final=scored[-1])
    (tmp_path / "runs" / COMPLETED / "model.safetensors").write_bytes(b"weights")
    facts = {"model": experiment["model"], "step": 40, "scores": {ERROR.name: 2.025}}
    write_json(tmp_path / "runs" / COMPLETED / "model.json", facts)
    make_sweep(tmp_path / "runs", SWEEP, [COMPLETED, FAILED])
    return tmp_path / "runs"


def rewrite(path: Path, **values: Any) -> None:
    write_json(path, {**(read_json(path) or {}), **values})


def test_lists_show_the_score_of_its_own_task(home: Path, sgp: Sgp) -> None:
    by_id = {run["run_id"]: run for run in sgp("runs", "--json", "--sort", "score").json}
    assert list(by_id) == [COMPLETED, FAILED]
    assert (by_id[COMPLETED]["score_name"], by_id[COMPLETED]["score"]) == (ERROR.name, pytest.approx(2.025))
    assert [run["run_id"] for run in sgp("runs", "--where", "model=lost_net", "--json").json] == [*by_id]
    status = sgp("status", COMPLETED)
    assert (status.code, status.err) == (0, "")
    assert "squared error        2.0250 (best 2.0250 at step 40)" in status.out
    assert f"best squared error so far: 2.0250, sgp-ring-4w-seed0 ({COMPLETED})" in sgp("status", SWEEP).out


def test_comparisons_rank_by_the_score_of_its_own_task(home: Path, sgp: Sgp) -> None:
    table = sgp("table", SWEEP, "--json").json
    assert (table["metric"], table["better"], table["rows"][0]["run_id"]) == (ERROR.name, "lower", COMPLETED)
    assert sgp("table", SWEEP).out.splitlines()[0].endswith("best squared_error on top")
    report = sgp("report", SWEEP, "--format", "html", "--json").json
    assert (report["metric"], [run["winner"] for run in report["runs"]]) == (ERROR.name, [True, False])
    page = (home / "sweeps" / SWEEP / "report" / "report.html").read_text()
    assert "Lowest validation squared error" in page
    assert "lost_net" in page


def test_what_needs_no_code_is_answered(home: Path, sgp: Sgp) -> None:
    assert sgp("logs", FAILED, "-n", "1").out == "line 20 of 2\n"
    exported = sgp("export", COMPLETED)
    assert (exported.code, exported.err) == (0, "")
    assert exported.out.endswith("averaged lost_net at step 40, squared error 2.0250\n")
    for arguments in (["sync", "--all", "--dry-run"], ["clean", FAILED, "--dry-run"], ["cancel", SWEEP]):
        said = sgp(*arguments)
        assert (said.code, said.err) == (0, ""), arguments


@pytest.mark.parametrize("arguments", [("resume", FAILED), ("export", COMPLETED, "--step", "last")])
def test_what_needs_its_code_says_which_part_is_missing(arguments: tuple[str, ...], home: Path, sgp: Sgp) -> None:
    said = sgp(*arguments)
    assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert any(f"'{name}'" in said.err for name in UNKNOWN.values())


def test_translate_says_what_the_model_is(home: Path, sgp: Sgp) -> None:
    said = sgp("translate", COMPLETED)
    assert (said.code, len(said.err.splitlines())) == (2, 1)
