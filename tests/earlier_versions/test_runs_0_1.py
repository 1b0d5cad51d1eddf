"""Runs made by version 0.1 (commit bd04510): their ids, checkpoints and folders outlive every move of the code.

``runs_0_1.tar.xz`` holds one folder a case: ``overrides``, the command line; ``runs/``, the folder of a run that failed
at step 8 and has a checkpoint of step 5; ``expected.jsonl``, the rows that version 0.1 wrote when it resumed that run.
``sweep/`` is a finished sweep of four runs.
"""

from __future__ import annotations

import json
import lzma
import shlex
import tarfile
from pathlib import Path

import pytest

from launcher.cli.sgp import main as sgp
from launcher.config.compose import compose
from launcher.config.make_plan import make_plans
from tests.support.launched import Launched

HERE = Path(__file__).parent
CASES = (
    *("d2", "low_rank_noloco", "nodes", "osgp", "paced", "relaysgd", "slowmo_int8", "translation"),
    "asgp",
)
REPEATABLE = ("loss", "lr", "bytes_sent", "consensus_distance", "push_sum_weight_min", "push_sum_weight_max")
RUN_IDS: dict[str, str] = json.loads((HERE / "run_ids_0_1.json").read_text())


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    with lzma.open(HERE / "runs_0_1.tar.xz") as file, tarfile.open(fileobj=file) as archive:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(tmp_path)
    return tmp_path


@pytest.mark.parametrize("line", RUN_IDS)
def test_run_ids_are_those_of_0_1(line: str) -> None:
    [plan] = make_plans(compose(shlex.split(line)))
    assert plan.run_id == RUN_IDS[line]


@pytest.mark.parametrize("case", CASES)
def test_a_run_of_0_1_is_resumed_from_its_checkpoint(unpacked: Path, case: str) -> None:
    folder = unpacked / case
    [run] = (path for path in (folder / "runs").iterdir() if path.is_dir())
    before = _rows(run / "metrics.jsonl")
    arguments = tuple(shlex.split((folder / "overrides").read_text()))
    said = Launched(folder, arguments).start().finish()
    assert said.code == 0, said.err
    assert "resuming in" in said.out
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "completed"
    rows, expected = _rows(run / "metrics.jsonl"), _rows(folder / "expected.jsonl")
    assert rows[:5] == before[:5], "rows up to the checkpoint were rewritten"
    assert [(row["step"], row["split"]) for row in rows] == [(row["step"], row["split"]) for row in expected]
    if case != "asgp":  # no two asynchronous runs are alike
        for row, wanted in zip(rows, expected, strict=True):
            assert _numbers(row) == pytest.approx(_numbers(wanted), rel=1e-4, abs=1e-9)  # machines round differently


def test_commands_read_a_sweep_of_0_1(unpacked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = unpacked / "sweep" / "runs"
    for command in (["runs"], ["status", "a788fffe"], ["table", "a788fffe"]):
        assert sgp([*command, "--runs-dir", str(runs)]) == 0
        assert "sgp" in capsys.readouterr().out
    page = unpacked / "report"
    assert sgp(["report", "a788fffe", "--runs-dir", str(runs), "--out", str(page), "--format", "html"]) == 0
    [html] = page.rglob("*.html")
    assert "34692d83cd" in html.read_text()


def _numbers(row: dict[str, float]) -> dict[str, float]:
    return {key: row[key] for key in REPEATABLE if row[key] is not None}


def _rows(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
