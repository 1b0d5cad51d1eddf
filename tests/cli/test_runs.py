"""``sgp runs``: the table of all runs, filtered, sorted and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.run_folders import make_rows, make_run
from tests.support.run_states import MIXED_SWEEP, WHOLE_SWEEP, slurm_run
from tests.support.sgp_command import Said


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Three runs that differ in algorithm, learning rate and score."""
    home = tmp_path / "runs"
    for number, (algorithm, lr) in enumerate((("sgp", 0.1), ("dpsgd", 0.05), ("allreduce", 0.5))):
        folder = make_run(
            home,
            f"{number}000000000",
            rows=make_rows(40, lift=lr / 100),
            algorithm={"name": algorithm},
            optimizer={"name": "sgd", "lr": lr},
        )
        spec = json.loads((folder / "spec.json").read_text())
        spec["provenance"]["time"] = f"2026-01-0{number + 1}T00:00:00+0000"
        (folder / "spec.json").write_text(json.dumps(spec))
    return home


def listed(said: Said) -> list[str]:
    assert said.code == 0, said.err
    return [run["run_id"][0] for run in said.json]


def test_a_line_says_what_one_wants_to_know(three: Path, sgp: Callable[..., Said]) -> None:
    heading, first, *_ = sgp("runs", "--runs-dir", three).out.splitlines()
    assert heading.split() == ["run", "name", "state", "step", "loss", "score", "seen", "where"]
    assert first.split()[:6] == ["2000000000", "allreduce-ring-4w-seed0", "completed", "40", "0.0550", "0.8925"]


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ([], "210"),
        (["--sort", "score"], "201"),
        (["--sort", "loss"], "102"),
        (["--sort", "accuracy"], "201"),
        (["--sort", "consensus_distance"], "210"),
        (["--sort", "name"], "210"),
        (["--sort", "optimizer.lr"], "102"),
        (["--sort", "algorithm"], "210"),
        (["--limit", "2"], "21"),
        (["--where", "algorithm=sgp,dpsgd"], "10"),
        (["--where", "algorithm!=sgp", "--where", "optimizer.lr=0.5"], "2"),
        (["--where", "workers=4"], "210"),
        (["--state", "failed,lost"], ""),
        (["--state", "completed"], "210"),
    ],
)
def test_what_is_listed_in_which_order(options: list[str], order: str, three: Path, sgp: Callable[..., Said]) -> None:
    assert listed(sgp("runs", *options, "--runs-dir", three, "--json")) == list(order)


def test_runs_without_what_is_sorted_by_come_last(three: Path, sgp: Callable[..., Said]) -> None:
    make_run(three, "3000000000", rows=[])
    make_run(three, "4000000000", seed=None)
    assert listed(sgp("runs", "--sort", "score", "--runs-dir", three, "--json"))[:3] == ["2", "0", "1"]
    assert listed(sgp("runs", "--sort", "seed", "--runs-dir", three, "--json"))[-1] == "4"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--where", "lr=0.1"], "--where lr: no run has such a setting; did you mean 'optimizer.lr'?"),
        (["--where", "sgp"], "--where sgp: a condition is key=value, such as algorithm=sgp"),
        (["--state", "complete"], "--state complete: no such state; did you mean 'completed'?"),
        (["--state", ","], "--state needs at least one of queued, running"),
        (["--sort", "scor"], "--sort scor: no run has that; did you mean 'score'?"),
        (["--sort", "acuracy"], "--sort acuracy: no run has that; did you mean 'accuracy'?"),
        (["--sweep", "ff"], "no run or sweep 'ff' in "),
    ],
)
def test_mistakes_name_what_is_near(options: list[str], message: str, three: Path, sgp: Callable[..., Said]) -> None:
    said = sgp("runs", *options, "--runs-dir", three, "--json")
    assert said.code == 2
    assert said.err.startswith(f"sgp: {message}")
    assert message in said.json["error"]


def test_the_runs_of_a_sweep(folders: Path, sgp: Callable[..., Said], slurm: Callable[[str], Path]) -> None:
    slurm("answers")
    said = sgp("runs", "--sweep", WHOLE_SWEEP, "--runs-dir", folders, "--json")
    assert {run["state"] for run in said.json} == {"completed"}
    assert len(said.json) == 8
    mixed = sgp("runs", "--sweep", MIXED_SWEEP, "--runs-dir", folders, "--json").json
    assert {run["run_id"]: run["note"] for run in mixed}["0000000000"].startswith("its folder does not exist")


def test_where_a_run_is(tmp_path: Path, sgp: Callable[..., Said], slurm: Callable[[str], Path]) -> None:
    slurm("answers")
    for run_id, job in (("d000000000", "1001"), ("d000000001", "1002_0")):
        slurm_run(tmp_path, run_id, job, "queued")
    out = sgp("runs", "--runs-dir", tmp_path).out
    assert "running" in out
    assert "slurm 1001 on node1\n" in out
    assert "slurm 1002_0: Resources\n" in out
    states = {
        run["run_id"]: (run["job_state"], run["nodes"]) for run in sgp("runs", "--runs-dir", tmp_path, "--json").json
    }
    assert states == {"d000000000": ("RUNNING", "node1"), "d000000001": ("PENDING", None)}


def test_states_that_were_not_checked_are_told(
    tmp_path: Path, sgp: Callable[..., Said], slurm: Callable[[str], Path]
) -> None:
    slurm("fails")
    for number in range(5):
        slurm_run(tmp_path, f"d00000000{number}", f"100{number}", "running")
    lines = sgp("runs", "--runs-dir", tmp_path).out.splitlines()
    assert lines[-4].endswith("SLURM does not answer, so job 1000 was not checked")
    assert lines[-1] == "... and 2 more runs that were not checked"


def test_nothing_to_list(three: Path, tmp_path: Path, sgp: Callable[..., Said]) -> None:
    assert sgp("runs", "--state", "failed", "--runs-dir", three).out == f"no run matches (3 runs in {three})\n"
    assert sgp("runs", "--runs-dir", tmp_path / "no").out == f"no runs in {tmp_path / 'no'}\n"
    assert sgp("runs", "--runs-dir", tmp_path / "no", "--json").json == []
