"""What is shown while a run goes on, and when it has ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.console.notebook import NotebookDisplay
from launcher.console.progress import BarDisplay, Display, LineDisplay, Tail
from launcher.console.screen import Screen
from launcher.console.summary import print_error, print_summary


def row(step: int, split: str = "train", **numbers: Any) -> dict[str, Any]:
    return {"step": step, "epoch": step / 10, "split": split, "total_steps": 100, "loss": 0.5, **numbers}


def test_a_row_is_read_once_and_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    tail = Tail(path)
    assert list(tail.rows()) == []
    path.write_text(json.dumps(row(1)) + "\n" + '{"step": 2, "spl')
    assert [found["step"] for found in tail.rows()] == [1]
    path.write_text(json.dumps(row(1)) + "\n" + json.dumps(row(2)) + "\n")
    assert [found["step"] for found in tail.rows()] == [2]
    assert list(tail.rows()) == []


def test_plain_lines_hold_back_training_but_no_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    lines = LineDisplay()
    for step in range(1, 40):
        lines.show(row(step))
    lines.show(row(40, "val", accuracy=0.9876, consensus_distance=0.001))
    shown = capsys.readouterr().out.splitlines()
    assert [line.partition("  epoch")[0] for line in shown] == ["step   1/100", "step  40/100"]
    assert "accuracy 0.9876" in shown[1]
    assert "consensus distance 1.0e-3" in shown[1]
    assert {split: latest["step"] for split, latest in lines.latest.items()} == {"train": 39, "val": 40}


def test_a_bar_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(Screen().display("run"), LineDisplay)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert isinstance(Screen(plain=True).display("run"), LineDisplay)
    screen = Screen(many=True)
    bar: Display = screen.display("run", "[1/2] ")
    assert isinstance(bar, BarDisplay)
    bar.show(row(3))
    bar.close()
    screen.close()
    assert bar.latest["train"]["step"] == 3


def test_lines_of_one_run_among_others_say_whose_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(many=True).display("lr=0.1 seed=1", "[2/3] ").show(row(5))
    assert capsys.readouterr().out.startswith("[2/3] lr=0.1 seed=1: step   5/100")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("JPY_PARENT_PID", "1"), ("MPLBACKEND", "module://matplotlib_inline.backend_inline")],
)
def test_a_notebook_gets_one_line_that_is_overwritten(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)  # as kernels have it, and what they start with !
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    screen = Screen()
    display = screen.display("my-run")
    assert isinstance(display, NotebookDisplay)
    for step in range(1, 1000):
        display.show({**row(step), "total_steps": 1000})
        display.show({**row(step, "val", accuracy=0.5), "total_steps": 1000})
    display.show({**row(1000, "val", accuracy=0.9), "total_steps": 1000})
    display.say("next")
    screen.close()
    drawn = capsys.readouterr().out
    assert drawn.endswith("accuracy 0.9000\nnext\n")
    assert drawn.count("\n") == 2
    assert drawn.count("\r") <= 41
    assert "\x1b" not in drawn
    assert "my-run [##########..........] 500/1000  loss 0.5000  accuracy 0.5000" in drawn


def test_the_summary_splits_the_time_of_a_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    final = row(9, "val", accuracy=0.5, step_time_ms=10.0, compute_time_ms=6.0, comm_time_ms=3.0)
    summary = {"name": "n", "run_id": "r", "status": "completed", "steps": 9, "final": final, "best": final}
    print_summary({**summary, "sync_command": f"wandb sync {tmp_path}/wandb/offline-run-*"}, tmp_path)
    said = capsys.readouterr().out
    assert f"upload to W&B        sgp sync {tmp_path}\n" in said
    assert "virtual time" not in said
    print_summary({**summary, "final": {**final, "virtual_time_s": 90.0}}, tmp_path)
    assert "  virtual time         1 min 30 s\n" in capsys.readouterr().out
    print_summary({**summary, "mirror_error": "not finished after 15 s"}, tmp_path)
    again = capsys.readouterr().out
    assert f"W&B is incomplete    not finished after 15 s; sgp sync {tmp_path} uploads the whole record\n" in again
    assert "10.00 ms = data 1.00 + compute 6.00 + communication 3.00" in said
    assert "0.5000 (averaged model; best 0.5000 at step 9)" in said
    assert str(tmp_path) in said


def test_a_users_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = {"rank": 1, "type": "T", "message": "no such thing", "traceback": "Traceback ...", "log": "/a/log"}
    print_error({**error, "user_mistake": True})
    assert capsys.readouterr().err == "sgp-train: no such thing\n"
    print_error({**error, "user_mistake": False})
    assert capsys.readouterr().err.splitlines() == [
        "Traceback ...",
        "sgp-train: worker 1 failed: T: no such thing",
        "sgp-train: its log: /a/log",
    ]
