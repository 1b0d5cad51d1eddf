"""Output is not the run: whatever becomes of what is printed, training goes on and its status is true."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.console.output import outlive_output

TRAIN = f"{sys.executable} -m launcher.cli.train training.max_steps=60 log_every=1 tracker=none"
INLINE = "cluster=inline"
LOCAL = "cluster.workers_per_node=2"
CASES = {
    "reader leaves": (f"{TRAIN} {LOCAL} | head -1; exit ${{PIPESTATUS[0]}}", 1, "training goes on"),
    "disks are full": (f"{TRAIN} {INLINE} > /dev/full 2>&1", 1, ""),
    "all are closed": (f"{TRAIN} -m {INLINE} seed=1,2 <&- >&- 2>&-", 2, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_training_goes_on(case: str, tmp_path: Path) -> None:
    command, runs, said = CASES[case]
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    summaries = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/summary.json")]
    assert [(one["status"], one["steps"]) for one in summaries] == [("completed", 60)] * runs
    assert len(list(tmp_path.glob("runs/*/checkpoints/step-60/manifest.json"))) == runs
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["launcher.cli.train --help", "launcher.cli.sgp runs"])
def test_commands_that_only_print_say_why_they_cannot(words: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m {words} > /dev/full"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    name = "sgp-train" if "train" in words else "sgp"
    assert (done.returncode, done.stderr) == (2, f"{name}: No space left on device\n")


def test_a_lost_stream_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other stream, and what is written to descriptors, stay as they are."""
    reader, writer = os.pipe()
    os.close(reader)
    error = io.StringIO()
    with os.fdopen(writer, "w") as broken:
        monkeypatch.setattr("sys.stdout", broken)
        monkeypatch.setattr("sys.stderr", error)
        with outlive_output("sgp-train"):
            for _ in range(3):
                print("a row", flush=True)
            assert not sys.stdout.isatty()
        assert (sys.stdout, sys.stderr) == (broken, error)
    assert error.getvalue() == "sgp-train: no more output (Broken pipe); training goes on\n"
