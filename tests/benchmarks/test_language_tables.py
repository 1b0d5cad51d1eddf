"""The tables of language models: which runs are trained, and what is said of them. The training itself is made up."""

from __future__ import annotations

import json
import subprocess
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import language_small
import muon
from launcher.config.compose import compose
from launcher.config.make_plan import make_plans
from suite import training_runs
from tests.benchmarks.running import run_small, table_rows

Trained = list[dict[str, str]]


@pytest.fixture(autouse=True)
def _folders_without_composing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Composing takes its time; that the words compose is a test of its own."""
    monkeypatch.setattr(training_runs, "folder_of", lambda words: tmp_path / "runs" / str(hash(words)))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """The words of every run that was trained, by the setting; in its folder it finds a score made up of them."""
    found: Trained = []

    def train(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        words = tuple(command[3:])
        said = dict(word.split("=", 1) for word in words if "=" in word)
        found.append(said)
        rate, workers = float(said.get("optimizer.lr", 0.001)), int(said.get("cluster.workers", 4))
        score = 2 + abs(rate - 0.02) + 0.01 * workers + 0.001 * int(said["seed"]) + 0.1 * ("diloco_" in words[0])
        folder = training_runs.folder_of(words)
        folder.mkdir(parents=True)
        final = {"bits_per_byte": score, "bytes_sent": 1e6 * workers, "peak_step_bytes": 1e5, "step_time_ms": 9.0}
        (folder / "summary.json").write_text(json.dumps({"status": "completed", "final": final}))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", train)
    return found


@pytest.fixture
def measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[ModuleType, str], tuple[dict[str, Any], list[dict[str, Any]], str]]:
    def measure(benchmark: ModuleType, options: str) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
        capsys.readouterr()
        options += f" --runs {tmp_path / 'runs'} dataset=text"
        about, rows = run_small(benchmark, options, tmp_path, monkeypatch)
        return about, rows, capsys.readouterr().out

    return measure


def test_muon_is_compared_at_the_best_rate_of_each(trained: Trained, measured: Callable[..., Any], tmp_path: Path):
    options = "--workers 4 --seeds 0 1 --rates 0.001 0.015 --muon-rates 0.03 0.5 --at-once 1"
    about, rows, said = measured(muon, options)
    assert [(row["workers"], row["outer"], row["adamw_lr"], row["muon_lr"]) for row in rows] == [
        (1, "none", 0.015, 0.03),
        (4, "DiLoCo", 0.015, 0.03),
    ]
    assert rows[1]["muon_seeds"] == pytest.approx([2.05, 2.051])
    assert rows[1]["adamw"] == pytest.approx(2.1455)
    assert table_rows(said)[-1][-3:] == ["-0.0950", "+1.42", "+1.48"]
    page = (tmp_path / "found" / "it.md").read_text()
    assert page.startswith(f"`python benchmarks/muon.py {options} dataset=text`\n\n| workers |")
    assert page in said
    assert "than AdamW with 4 workers, and in every seed with 4" in said
    assert "loses not less than AdamW with 4 workers" in about["verdict"][1]
    assert len(trained) == 2 * 2 * (2 + 2)
    of_four = [run for run in trained if run["cluster.workers"] == "4" and run["experiment"] == "muloco_150m_small"]
    assert {(run["training.batch_size"], run["optimizer.weight_decay"]) for run in of_four} == {("4", "0.0025")}
    measured(muon, options)
    assert len(trained) == 16, "nothing is trained twice"


def test_every_way_to_communicate_has_a_line(trained: Trained, measured: Callable[..., Any]):
    _, rows, said = measured(language_small, "--seeds 0 2")
    assert [row["name"] for row in rows] == list(language_small.LINES)
    assert {run["experiment"] for run in trained} == {"language_small"}
    assert len(trained) == 2 * len(language_small.LINES)
    assert all("optimizer.lr" not in run for run in trained)
    assert table_rows(said)[1] == [
        "AllReduce", "2", "2.0600", "2.0590 to 2.0610", "+0.00", "preset's", "4.0", "0.1", "9",
    ]  # fmt: skip


def test_learning_rates_can_be_chosen_for_each_line(trained: Trained, measured: Callable[..., Any]):
    _, rows, _ = measured(language_small, "--only SGP --seeds 0 --rates 0.001 0.03")
    assert [(row["name"], row["lr"], row["over"]) for row in rows] == [("SGP", 0.03, None)]
    assert [run["seed"] for run in trained] == ["1000", "1000", "0"]


def test_the_words_of_every_line_compose(tmp_path: Path):
    options = Namespace(steps=4, runs=tmp_path, overrides=("dataset=text",))
    words = [language_small.words_of(name, 0.01, 0, options) for name in language_small.LINES]
    cells = [muon.Cell(1, False, "adamw"), muon.Cell(4, True, "muon")]
    words += [muon.words_of(cell, 0.01, 0, options) for cell in cells]
    folders = [make_plans(compose(list(each)))[0].run_dir for each in words]
    assert {folder.parent for folder in folders} == {tmp_path}
    assert len(set(folders)) == len(words)


def test_a_run_that_fails_says_why(measured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    def fail(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "sgp-train: no")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(SystemExit, match="sgp-train: no"):
        measured(language_small, "--only SGP --seeds 0")
