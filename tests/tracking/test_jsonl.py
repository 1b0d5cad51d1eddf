"""metrics.jsonl is complete to the last step whatever happens, and holds every step once."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from pathlib import Path

import pytest

from sgp_core.tracking import JsonlTracker, read_rows
from tests.support.workers import _CONTEXT


def row(step: int, split: str = "train", **more: object) -> dict:
    return {"step": step, "split": split, "loss": 1.0 / step, **more}


def test_each_row_is_a_line_that_is_there_at_once(tmp_path):
    tracker = JsonlTracker(tmp_path / "run" / "metrics.jsonl")
    for step in (1, 2):
        tracker.log(row(step))
        assert read_rows(tmp_path / "run" / "metrics.jsonl")[-1] == row(step)
    tracker.finish("completed", {})
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 2


def test_what_is_no_number_becomes_null(tmp_path):
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    tracker.log({"step": 1, "loss": math.nan, "grad": -math.inf, "accuracy": None})
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail) == {"step": 1, "loss": None, "grad": None, "accuracy": None}


def test_resuming_forgets_later_rows_and_a_torn_last_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tracker = JsonlTracker(path)
    for step in range(1, 8):
        tracker.log(row(step))
    tracker.log(row(4, "val"))
    with open(path, "a") as file:
        file.write('{"step": 8, "lo')
    again = JsonlTracker(path)
    again.resume(5)
    for step in (6, 7):
        again.log(row(step, again=True))
    rows = read_rows(path)
    assert [(one["step"], one["split"]) for one in rows] == [
        *((step, "train") for step in range(1, 6)),
        (4, "val"),
        (6, "train"),
        (7, "train"),
    ]
    assert rows[-1]["again"]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_beginning_anew_forgets_everything(tmp_path):
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    tracker.log(row(1))
    tracker.resume(0)
    assert read_rows(tmp_path / "metrics.jsonl") == []


def test_the_first_start_needs_no_file(tmp_path):
    JsonlTracker(tmp_path / "metrics.jsonl").resume(0)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_full_disk_is_an_error(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        JsonlTracker(tmp_path / "metrics.jsonl").log(row(1))


def log_for_ever(path: str, announced: str) -> None:
    tracker = JsonlTracker(Path(path))
    step = 0
    while True:
        step += 1
        tracker.log(row(step))
        Path(announced).write_text(f"{step}\n")


def test_after_sigkill_every_finished_step_is_on_file(tmp_path):
    path, announced = tmp_path / "metrics.jsonl", tmp_path / "announced"
    process = _CONTEXT.Process(target=log_for_ever, args=(str(path), str(announced)))
    process.start()
    while not path.exists() or len(read_rows(path)) < 50:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    steps = [one["step"] for one in read_rows(path)]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= int(announced.read_text() or 0)


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_the_mode_of_the_file_follows_the_umask(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        tracker = JsonlTracker(tmp_path / "metrics.jsonl")
        tracker.log({"step": 1})
        tracker.finish("completed", {})
    finally:
        os.umask(before)
    assert (tmp_path / "metrics.jsonl").stat().st_mode & 0o777 == 0o666 & ~mask


def test_rows_without_a_step_end_no_resumption(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": "x"}\n{"step": null}\n[3]\n{"step": 1}\n{"step": 2}\n{"st')
    JsonlTracker(path).resume(1)
    assert path.read_text() == '{"step": 1}\n'


@pytest.mark.parametrize("what", ["removed", "replaced"])
def test_a_file_that_is_not_at_its_path_any_more_is_noticed_at_the_next_row(tmp_path, what):
    folder = tmp_path / "run"
    tracker = JsonlTracker(folder / "metrics.jsonl")
    tracker.log({"step": 1})
    folder.rename(tmp_path / "moved")
    if what == "replaced":
        JsonlTracker(folder / "metrics.jsonl").log({"step": 7})
    with pytest.raises(OSError, match=r"removed, renamed or replaced while a run wrote to it: .*metrics\.jsonl"):
        tracker.log({"step": 2})
    assert (tmp_path / "moved" / "metrics.jsonl").read_text() == '{"step": 1}\n'
