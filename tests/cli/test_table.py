"""``sgp table``: what differs between runs, how far they are, and which is best."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.run_folders import make_rows, make_run, make_sweep
from tests.support.run_states import MIXED_SWEEP, queued_run
from tests.support.sgp_command import Said

SWEEP = "abcd0000"
COLUMNS = ["state", "step", "loss", "accuracy", "last", "distance", "time"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep over algorithm and seed in ``runs`` of the working directory: sgp is the better one."""
    runs = tmp_path / "runs"
    ids = []
    for algorithm, lift in (("dpsgd", 0.0), ("sgp", 0.02)):
        for seed in (1, 2):
            ids.append(f"{len(ids)}000000000")
            rows = make_rows(40, lift=lift + seed / 1000)
            make_run(runs, ids[-1], rows=rows, algorithm={"name": algorithm}, seed=seed)
    make_sweep(runs, SWEEP, ids)
    monkeypatch.chdir(tmp_path)
    return runs


def first_letters(said: Said) -> str:
    assert said.code == 0, said.err
    return "".join(row["run_id"][0] for row in said.json["rows"])


def test_only_what_differs_is_shown_and_the_best_is_on_top(home: Path, sgp: Callable[..., Said]) -> None:
    said = sgp("table", "ab")
    assert (said.code, said.err) == (0, "")
    heading, columns, first, second, *_ = said.out.splitlines()
    assert heading == f"sweep {SWEEP}: 4 completed; best mean accuracy over seeds on top"
    assert columns.split() == ["run", "algorithm", "seed", *COLUMNS]
    assert first.split() == [
        "3000000000",
        "sgp",
        "2",
        "completed",
        "40",
        "0.0720",
        "0.9095",
        "0.9095",
        "1.0e-2",
        "0.8",
        "s",
        "*",
    ]
    assert not second.endswith("*")


def test_without_a_name_everything_is_compared(home: Path, sgp: Callable[..., Said]) -> None:
    make_run(home, "9000000000", rows=make_rows(40, lift=0.05), algorithm={"name": "allreduce"}, seed=1)
    assert first_letters(sgp("table", "--json")) == "93210"
    assert sgp("table").out.startswith("5 runs: 5 completed; best mean accuracy over seeds on top\n")
    said = sgp("table", "--runs-dir", "nowhere")
    assert (said.code, said.err) == (2, "sgp: there are no runs in nowhere; --runs-dir says where to look\n")


@pytest.mark.parametrize(
    ("key", "order"),
    [("accuracy", "3210"), ("loss", "0123"), ("seed", "2031"), ("algorithm", "1032"), ("distance", "3210")],
)
def test_rows_in_the_order_of_a_column(key: str, order: str, home: Path, sgp: Callable[..., Said]) -> None:
    assert first_letters(sgp("table", SWEEP, "--sort", key, "--json")) == order
    assert f"; ordered by {key}\n" in sgp("table", SWEEP, "--sort", key).out


def test_a_column_that_no_run_has_orders_nothing(home: Path, sgp: Callable[..., Said]) -> None:
    said = sgp("table", SWEEP, "--sort", "acuracy")
    assert (said.code, said.err) == (2, "sgp: --sort acuracy: no run has that; did you mean 'accuracy'?\n")


def test_as_json(home: Path, sgp: Callable[..., Said]) -> None:
    said = sgp("table", SWEEP, "--json").json
    assert (said["sweep_id"], said["metric"], said["better"]) == (SWEEP, "accuracy", "higher")
    assert said["changed"] == ["algorithm", "seed"]
    best = said["rows"][0]
    assert (best["run_id"], best["settings"], best["winner"]) == ("3000000000", {"algorithm": "sgp", "seed": 2}, True)
    assert (best["step"], best["best_step"], best["best"]) == (40, 40, pytest.approx(0.9095))
    assert [row["winner"] for row in said["rows"]] == [True, False, False, False]
    assert sgp("table", SWEEP, "--format", "json").json == said


def test_best_is_the_best_ever_and_last_the_latest(home: Path, sgp: Callable[..., Said]) -> None:
    with open(home / "0000000000" / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 50, "split": "val", "accuracy": 0.95}) + "\n")
        file.write(json.dumps({"step": 60, "split": "val", "accuracy": 0.10}) + "\n")
    best = sgp("table", SWEEP, "--json").json["rows"][0]
    assert (best["run_id"], best["best"], best["best_step"], best["last"]) == ("0000000000", 0.95, 50, 0.1)


def test_another_metric_may_be_better_when_low(home: Path, sgp: Callable[..., Said]) -> None:
    for number in range(4):
        with open(home / f"{number}000000000" / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"step": 50, "split": "val", "perplexity": 10.0 - number, "bleu": number}) + "\n")
    assert first_letters(sgp("table", SWEEP, "--metric", "perplexity", "--json")) == "3210"
    assert sgp("table", SWEEP, "--metric", "perplexity", "--json").json["better"] == "lower"
    assert first_letters(sgp("table", SWEEP, "--metric", "bleu", "--json")) == "3210"
    assert "validation loss" in sgp("table", SWEEP, "--metric", "loss").out


def test_a_search_knows_its_metric_and_direction(home: Path, sgp: Callable[..., Said]) -> None:
    path = home / "sweeps" / SWEEP / "sweep.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "search": {"metric": "accuracy", "direction": "minimize"}}))
    assert first_letters(sgp("table", SWEEP, "--json")) == "0123"


def test_seeds_become_mean_and_standard_deviation(home: Path, sgp: Callable[..., Said]) -> None:
    said = sgp("table", SWEEP, "--mean")
    heading, columns, first, _ = said.out.splitlines()
    assert heading.endswith("; best mean accuracy over seeds on top, ± std over seeds")
    assert columns.split()[:3] == ["seeds", "algorithm", "state"]
    assert "seed" not in columns.split()
    assert first.split()[:3] == ["2", "sgp", "completed"]
    assert "0.9090 ± 0.0007" in first
    rows = sgp("table", SWEEP, "--mean", "--json").json["rows"]
    assert rows[0]["runs"] == ["3000000000", "2000000000"] or rows[0]["runs"] == ["2000000000", "3000000000"]
    assert rows[0]["best"] == pytest.approx(0.909)
    assert rows[0]["spread"]["best"] == pytest.approx(0.001 / 2**0.5)
    assert rows[0]["states"] == {"completed": 2}
    assert [row["winner"] for row in rows] == [True, False]


def test_a_seed_alone_has_no_spread(home: Path, sgp: Callable[..., Said]) -> None:
    shutil.rmtree(home / "2000000000")
    rows = sgp("table", SWEEP, "--mean", "--json").json["rows"]
    assert [(len(row["runs"]), "best" in row["spread"]) for row in rows] == [(1, False), (2, True), (1, False)]
    assert rows[-1]["states"] == {"damaged": 1}


def test_as_csv_with_all_digits(home: Path, sgp: Callable[..., Said]) -> None:
    rows = list(csv.DictReader(io.StringIO(sgp("table", SWEEP, "--format", "csv").out)))
    assert [row["run"][0] for row in rows] == ["3", "2", "1", "0"]
    assert float(rows[0]["accuracy"]) == make_rows(40, lift=0.022)[-1]["accuracy"]
    assert rows[0]["step"] == "40"
    merged = list(csv.DictReader(io.StringIO(sgp("table", SWEEP, "--mean", "--format", "csv").out)))
    assert float(merged[0]["accuracy_std"]) == pytest.approx(0.001 / 2**0.5)
    assert merged[0]["seeds"] == "2"


def test_as_markdown_with_the_best_in_bold(home: Path, sgp: Callable[..., Said]) -> None:
    heading, rule, first, *others = sgp("table", SWEEP, "--format", "markdown").out.splitlines()
    assert heading.startswith("| run | algorithm | seed | state |")
    assert rule == "|---|---|---|---|---:|---:|---:|---:|---:|---:|"
    assert "| **0.9095** |" in first
    assert not any("**" in line for line in others)


def test_columns_can_be_chosen(home: Path, sgp: Callable[..., Said]) -> None:
    said = sgp("table", SWEEP, "--columns", "algorithm,training.batch_size,accuracy,step_time_ms,bytes_sent,time")
    _, columns, first, *_ = said.out.splitlines()
    assert columns.split() == ["algorithm", "training.batch_size", "accuracy", "step_time_ms", "bytes_sent", "time"]
    assert first.split() == ["sgp", "32", "0.9095", "20.0", "40", "kB", "0.8", "s", "*"]
    rows = sgp("table", SWEEP, "--columns", "algorithm,bytes_sent", "--json").json["rows"]
    assert rows[0]["bytes_sent"] == 40000


def test_virtual_time_is_a_column_where_it_differs(home: Path, sgp: Callable[..., Said]) -> None:
    assert "no run has that" in sgp("table", SWEEP, "--columns", "virtual_time").err
    for number in (1, 2, 3):
        with open(home / f"{number}000000000" / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"step": 50, "split": "train", "virtual_time_s": 100.0 / number}) + "\n")
    said = sgp("table", SWEEP)
    assert said.out.splitlines()[1].split()[-2:] == ["time", "virtual_time"]
    assert said.out.splitlines()[2].endswith("33.3 s  *")
    assert first_letters(sgp("table", SWEEP, "--sort", "virtual_time", "--json")) == "3210"
    rows = sgp("table", SWEEP, "--columns", "algorithm", "--json").json["rows"]
    assert {row["run_id"][0]: row.get("virtual_time_s") for row in rows} == {
        "0": None, "1": 100.0, "2": 50.0, "3": pytest.approx(100 / 3)
    }  # fmt: skip
    assert "virtual_time" not in sgp("table", "3000000000").out
    chosen = sgp("table", "3000000000", "--columns", "algorithm,virtual_time", "--format", "csv").out
    assert chosen.splitlines()[0] == "algorithm,virtual_time"


def test_scores_of_test_splits_are_columns_too(home: Path, sgp: Callable[..., Said]) -> None:
    for number, bleu in enumerate((24.9, 25.1, 26.0, 27.0)):
        file = home / f"{number}000000000" / "summary.json"
        test = {"test_2016": {"bleu": bleu, "bleu_signature": "nrefs:1"}}
        file.write_text(json.dumps({**json.loads(file.read_text()), "test": test}))
    said = sgp("table", SWEEP, "--mean", "--columns", "algorithm,test_2016.bleu")
    _, columns, first, second = said.out.splitlines()
    assert columns.split() == ["algorithm", "test_2016.bleu"]
    assert first.split() == ["sgp", "26.50", "±", "0.71", "*"]
    assert second.split() == ["dpsgd", "25.00", "±", "0.14"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "acuracy"], "--metric acuracy: validation has measured no such thing; did you mean 'accuracy'?"),
        (["--columns", "algoritm"], "--columns algoritm: no run has that; did you mean 'algorithm'?"),
        (["--columns", "batch_size"], "--columns batch_size: no run has that; did you mean 'training.batch_size'?"),
        (["--columns", ","], "--columns needs at least one column, such as algorithm,best"),
    ],
)
def test_mistakes(arguments: list[str], message: str, home: Path, sgp: Callable[..., Said]) -> None:
    said = sgp("table", SWEEP, *arguments)
    assert (said.code, said.out, said.err) == (2, "", f"sgp: {message}\n")


def test_a_sweep_that_has_hardly_begun(home: Path, sgp: Callable[..., Said]) -> None:
    for number in range(1, 4):
        shutil.rmtree(home / f"{number}000000000")
        queued_run(home, f"{number}000000000", seed=number)
    said = sgp("table", SWEEP)
    assert said.out.splitlines()[0] == f"sweep {SWEEP}: 3 queued, 1 completed; best mean accuracy over seeds on top"
    assert said.out.splitlines()[2].split()[0] == "0000000000"
    assert "*" not in said.out  # alone it has won nothing


def test_a_sweep_without_any_metric(tmp_path: Path, sgp: Callable[..., Said]) -> None:
    for number in range(2):
        queued_run(tmp_path, f"{number}000000000", seed=number)
    make_sweep(tmp_path, SWEEP, ["0000000000", "1000000000"])
    said = sgp("table", SWEEP, "--runs-dir", tmp_path, "--metric", "bleu", "--json")
    assert [row["best"] for row in said.json["rows"]] == [None, None]


def test_runs_that_make_no_sweep_can_be_compared(home: Path, sgp: Callable[..., Said]) -> None:
    said = sgp("table", "0000000000", "2000000000")
    assert said.out.splitlines()[0] == "2 runs: 2 completed; best accuracy on top"
    assert said.out.splitlines()[1].split()[:2] == ["run", "algorithm"]


def test_every_state_at_once(folders: Path, sgp: Callable[..., Said], slurm: Callable[[str], Path]) -> None:
    slurm("answers")
    said = sgp("table", MIXED_SWEEP, "--runs-dir", folders, "--json")
    assert {row["state"] for row in said.json["rows"]} == {
        "queued", "running", "completed", "failed", "preempted", "cancelled", "lost", "damaged"
    }  # fmt: skip
    scores = [row["best"] for row in said.json["rows"]]
    known = [score for score in scores if score is not None]
    assert known == sorted(known, reverse=True)
    assert scores[len(known) :] == [None] * (len(scores) - len(known))


@pytest.mark.parametrize("begin", ["=1+1", "+1", "-cmd", "@SUM(A1)"])
def test_a_spreadsheet_computes_no_cell(begin: str, tmp_path: Path, sgp: Callable[..., Said]) -> None:
    """Texts that would be formulas are marked as text; numbers stay numbers."""
    rows = [{"split": "val", "step": 1, "loss": -0.5, "accuracy": 0.5}]
    make_run(tmp_path, "0000000001", rows=rows, name=begin, dataset={"name": f"{begin}x"})
    make_run(tmp_path, "0000000002", rows=rows, name=begin, dataset={"name": "digits"})
    said = sgp("table", "--columns", "name,dataset,loss", "--format", "csv", "--runs-dir", tmp_path)
    found = list(csv.DictReader(io.StringIO(said.out)))
    assert {row["dataset"] for row in found} == {"digits", f"'{begin}x"}
    assert [row["name"] for row in found] == [f"'{begin}"] * 2
    assert all(not row["loss"].startswith("'") for row in found)
