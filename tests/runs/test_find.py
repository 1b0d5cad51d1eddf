"""Runs and sweeps, found by what people type and read from whatever their folders hold."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.cli.json_output import jsonable
from launcher.cli.run_fields import facts
from launcher.cli.run_table import table_of
from launcher.runs.find import (
    STATES,
    Run,
    Sweep,
    age,
    all_runs,
    all_sweeps,
    find,
    find_run,
    find_runs,
    find_sweep,
    members,
)
from launcher.runs.settings import all_settings
from sgp_core.errors import ConfigurationError
from tests.support import run_states as folders
from tests.support.run_folders import make_run, make_sweep

WORDS = (
    "failed",
    "running",
    "queued",
    "preempted",
    "training",
    "slurm",
    "train",
    "val",
    "12",
    "RuntimeError",
    "\0",
    "/",
)
FILES = ("spec.json", "summary.json", "job.json", "metrics.jsonl", "rank-2.json", "logs/attempt-1/progress.jsonl")
NAMES = (
    "status", "name", "error", "rank", "type", "message", "log", "experiment", "world_size", "training", "epochs",
    "max_steps", "attempt", "launcher", "pid", "started", "host", "provenance", "time", "cluster", "job_id", "folder",
    "submitted", "split", "step", "epoch", "loss", "accuracy", "total_steps", "sweep", "steps", "final", "evaluation",
)  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs, two of which have the same name, and a sweep of two."""
    home = tmp_path / "runs"
    make_run(home, "aa00000000", name="sgp-ring-4w-seed0")
    make_run(home, "aa11111111", name="sgp-ring-4w-seed0")
    make_run(home, "bb00000000", name="dpsgd-ring-4w-seed1")
    make_sweep(home, "abcd0000", ["bb00000000", "aa00000000"])
    return home


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("aa00000000", "aa00000000"),
        ("aa0", "aa00000000"),
        ("b", "bb00000000"),
        ("ab", "abcd0000"),
        ("dpsgd-ring-4w-seed1", "bb00000000"),
        ("dpsgd", "bb00000000"),
        ("{runs}/bb00000000", "bb00000000"),
        ("{runs}/bb00000000/", "bb00000000"),
        ("{runs}/sweeps/abcd0000", "abcd0000"),
    ],
)
def test_a_target_may_be_short(target: str, meant: str, runs: Path) -> None:
    found = find(target.format(runs=runs), runs)
    assert (found.run_id if isinstance(found, Run) else found.sweep_id) == meant


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("a", "'a' could be aa00000000, aa11111111, abcd0000: give more of the id"),
        ("sgp-ring-4w-seed0", "could be aa00000000, aa11111111: give more"),
        ("cc", "no run or sweep 'cc' in "),
        ("dspgd-ring-4w-seed1", "did you mean 'dpsgd-ring-4w-seed1'?"),
        ("", "no run or sweep ''"),
        ("/", "no run or sweep ''"),
        ("./nowhere", "./nowhere is not the folder of a run or a sweep"),
        ("{runs}/sweeps", "is not the folder of a run or a sweep"),
        ("../aa00000000", "is not the folder of a run or a sweep"),
    ],
)
def test_a_target_must_mean_one_thing(target: str, message: str, runs: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        find(target.format(runs=runs), runs)
    assert message in str(caught.value)


def test_a_whole_id_beats_longer_names(runs: Path) -> None:
    make_run(runs, "cc00000000", name="aa00000000-copy")
    assert find_run("aa00000000", runs).run_id == "aa00000000"


def test_where_nothing_is_the_message_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--runs-dir says where to look"):
        find("aa", tmp_path / "nowhere")


def test_many_candidates_are_not_all_named(runs: Path) -> None:
    for number in range(9):
        make_run(runs, f"dd{number:08x}")
    with pytest.raises(ConfigurationError) as caught:
        find("dd", runs)
    assert str(caught.value).count("dd0") == 5
    assert ", ..." in str(caught.value)


def test_a_run_is_no_sweep_and_a_sweep_no_run(runs: Path) -> None:
    with pytest.raises(ConfigurationError, match="ab is a sweep; name one of its runs: bb00000000, aa00000000"):
        find_run("ab", runs)
    with pytest.raises(ConfigurationError, match="bb is a run, not a sweep; it belongs to sweep abcd0000"):
        find_sweep("bb", runs)


def test_the_runs_of_several_targets_each_once(runs: Path) -> None:
    found = find_runs(["aa0", "abcd0000", "bb"], runs)
    assert [run.run_id for run in found] == ["aa00000000", "bb00000000"]


def test_a_sweep_knows_runs_that_have_no_folder(runs: Path) -> None:
    shutil.rmtree(runs / "bb00000000")
    gone, there = members(find_sweep("abcd0000", runs))
    assert (gone.run_id, gone.state, gone.note) == (
        "bb00000000",
        "damaged",
        "its folder does not exist: never started, or removed",
    )
    assert (there.run_id, there.state) == ("aa00000000", "completed")


def test_everything_else_in_the_folder_is_left_alone(runs: Path) -> None:
    (runs / "replaced" / "aa00000000-20260101-000000").mkdir(parents=True)
    (runs / "cc00000000").write_text("not a folder")
    (runs / "report-aa").mkdir()
    (runs / "sweeps" / "notes").mkdir()
    assert {run.run_id for run in all_runs(runs)} == {"aa00000000", "aa11111111", "bb00000000"}
    assert [sweep.sweep_id for sweep in all_sweeps(runs)] == ["abcd0000"]


def test_the_newest_run_is_first(runs: Path) -> None:
    for number, run_id in enumerate(("aa11111111", "bb00000000", "aa00000000")):
        spec = json.loads((runs / run_id / "spec.json").read_text())
        spec["provenance"]["time"] = f"2026-01-0{number + 1}T00:00:00+0000"
        (runs / run_id / "spec.json").write_text(json.dumps(spec))
    assert [run.run_id for run in all_runs(runs)] == ["aa00000000", "bb00000000", "aa11111111"]


def test_the_culprit_is_named_with_its_traceback_and_log(tmp_path: Path) -> None:
    folders.failed_run(tmp_path, "f000000000")
    error = find_run("f", tmp_path).error
    assert error is not None
    assert (error["rank"], error["type"], error["message"]) == (2, "ValueError", "loss is not finite")
    assert "train.py" in error["traceback"]
    assert error["log"].endswith("attempt-1/1_2_log.out")


def test_an_error_without_traceback_comes_with_the_end_of_the_log(tmp_path: Path) -> None:
    folder = folders.failed_run(tmp_path, "f000000000")
    (folder / "rank-2.json").unlink()
    error = find_run("f", tmp_path).error
    assert error is not None
    assert error["traceback"].splitlines()[0] == "last lines of its log:"
    assert error["traceback"].splitlines()[-1] == "line 20 of 2"


def test_a_lost_run_tells_what_its_workers_said(tmp_path: Path) -> None:
    folder = folders.lost_run(tmp_path, "b000000000")
    assert find_run("b", tmp_path).error is None
    report = json.loads((folder / "rank-1.json").read_text())
    said = {"type": "MemoryError", "message": "no", "traceback": "..."}
    (folder / "rank-1.json").write_text(json.dumps({**report, "status": "failed", "error": said}))
    run = find_run("b", tmp_path)
    assert run.state == "lost"
    assert run.error is not None
    assert (run.error["rank"], run.error["type"]) == (1, "MemoryError")


def test_a_job_whose_workers_failed_tells_it_before_the_verdict(tmp_path: Path) -> None:
    folder = folders.slurm_run(tmp_path, "d000000000", "1001", "running")
    victim = {"type": "RuntimeError", "message": "Connection closed by peer", "traceback": "..."}
    culprit = {"type": "ValueError", "message": "loss is not finite", "traceback": "..."}
    for rank, (said, at) in enumerate([(victim, 1.0), (victim, 2.0), (culprit, 3.0), (victim, 4.0)]):
        report = json.loads((folder / f"rank-{rank}.json").read_text())
        (folder / f"rank-{rank}.json").write_text(json.dumps({**report, "status": "failed", "time": at, "error": said}))
    error = find_run("d", tmp_path).error
    assert error is not None
    assert (error["rank"], error["type"]) == (2, "ValueError")


def test_what_an_earlier_attempt_said_does_not_count(tmp_path: Path) -> None:
    folder = folders.failed_run(tmp_path, "f000000000")
    assert set(find_run("f", tmp_path).workers) == {0, 1, 2, 3}
    (folder / "logs" / "attempt-2").mkdir()
    run = find_run("f", tmp_path)
    assert (run.attempt, run.workers) == (2, {})


def test_logs_are_found_where_runs_have_been_copied_to(tmp_path: Path) -> None:
    folder = folders.slurm_run(tmp_path / "cluster", "d000000000", "1001", "running")
    shutil.move(tmp_path / "cluster", tmp_path / "laptop")
    log = find_run("d", tmp_path / "laptop").log(3)
    assert log == tmp_path / "laptop" / folder.name / "logs" / "attempt-1" / "1001_3_log.out"


def test_the_logs_of_an_array_are_with_its_sweep(tmp_path: Path) -> None:
    folder = folders.slurm_run(tmp_path, "d000000000", "1002_1", "queued", seed=3)
    spec = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps({**spec, "sweep": "abcd0000"}))
    there = tmp_path / "sweeps" / "abcd0000" / "slurm" / "1002_1_0_log.out"
    assert find_run("d", tmp_path).log(0, 1) is None
    there.parent.mkdir(parents=True)
    there.write_text("here\n")
    assert find_run("d", tmp_path).log(0, 1) == there


def test_a_requeued_job_keeps_its_log(tmp_path: Path) -> None:
    folder = folders.slurm_run(tmp_path, "d000000000", "1001", "running")
    for number in (2, 3):
        (folder / "logs" / f"attempt-{number}").mkdir()
    run = find_run("d", tmp_path)
    assert (run.attempts, run.log(0)) == ([1, 2, 3], folder / "logs" / "attempt-1" / "1001_0_log.out")


@pytest.mark.parametrize(
    ("training", "progress", "rows", "total"),
    [
        ({"max_steps": 500, "epochs": 4}, None, [], 500),
        ({"max_steps": None, "epochs": 4}, {"total_steps": 92}, [], 92),
        ({"max_steps": None, "epochs": 4}, None, [{"split": "train", "step": 10, "epoch": 0.4348}], 92),
        ({"max_steps": None, "epochs": 4}, None, [], None),
        ({"epochs": "four"}, {"total_steps": -1}, [{"split": "train", "step": 10, "epoch": 0}], None),
    ],
)
def test_how_far_there_is_to_go(
    training: dict[str, Any],
    progress: dict[str, Any] | None,
    rows: list[dict[str, Any]],
    total: int | None,
    tmp_path: Path,
) -> None:
    folder = make_run(tmp_path, "aa00000000", rows=rows, status="running", training=training)
    logs = folder / "logs" / "attempt-1"
    logs.mkdir(parents=True)
    if progress:
        (logs / "progress.jsonl").write_text(json.dumps({"split": "train", "step": 1, **progress}) + "\n")
    assert find_run("aa", tmp_path).total_steps == total


def test_every_property_of_every_folder_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{folders.squeue_that('answers', tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}")
    home = folders.make_folders(tmp_path / "runs")
    found = all_runs(home)
    assert len(found) >= 50
    properties = [name for name in dir(Run) if not name.startswith("_") and name != "log"]
    for run in found:
        for name in properties:
            getattr(run, name)
        run.log(0)
        run.log(99, 7)
    states = {run.run_id: run.state for run in found}
    assert set(states.values()) == {
        "queued", "running", "completed", "failed", "preempted", "cancelled", "lost", "damaged"
    }  # fmt: skip
    assert [states[f"d00000000{number}"] for number in range(6)] == [
        "running", "queued", "queued", "queued", "lost", "completed"
    ]  # fmt: skip
    for sweep in all_sweeps(home):
        assert isinstance(sweep, Sweep)
        assert len(members(sweep)) == len(sweep.run_ids)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)
CONTENT = st.binary(max_size=40) | st.dictionaries(st.sampled_from(NAMES), JSON, max_size=8).map(
    lambda value: json.dumps(value).encode() + b"\n"
)


@given(contents=st.lists(CONTENT, min_size=len(FILES), max_size=len(FILES)), chosen=st.integers(1, 2 ** len(FILES) - 1))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_files_hold(contents: list[bytes], chosen: int, tmp_path: Path) -> None:
    folder = tmp_path / "f000000000"
    shutil.rmtree(folder, ignore_errors=True)
    folders.failed_run(tmp_path, folder.name)
    for number, (name, content) in enumerate(zip(FILES, contents, strict=True)):
        if chosen >> number & 1:
            (folder / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("launcher.system.slurm_cli.queue", lambda patience_s: {})
        run = find_run("f0", tmp_path)
        json.dumps(jsonable({"run": facts(run), "error": run.error}), allow_nan=False)
        assert run.state in STATES
        [cells] = table_of([run])[1]
        assert [cell for cell in cells if not isinstance(cell, str)] == []
        all_settings(run.spec)


def test_ages_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    said = [age(1_000_000.0 - seconds) for seconds in (-5, 0, 59, 60, 7200, 200_000)]
    assert said == ["0 s", "0 s", "59 s", "1 min", "2 h", "2 d"]
    assert age(None) == "-"
