"""The benchmark of predictions: two workers on this machine, one small configuration."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import prediction
from tests.docs.pages import ROOT


def test_it_measures_predicts_and_chooses(tmp_path: Path) -> None:
    """Figures of a busy machine say nothing, so only that they are there is tested."""
    words = ["--networks", "loopback", "--workers", "2", "--minutes", "0.3", "--parameters", "0.02"]
    file = tmp_path / "prediction.json"
    said = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "prediction.py", *words, "--json", file], capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    rows = json.loads(file.read_text())["rows"]
    assert [row["name"] for row in rows] == list(prediction.rules())
    assert all(row["measured_ms"] > 40 and row["predicted_ms"] > 40 for row in rows)
    assert "all: 4 predictions" in said.stdout


def test_a_choice_is_judged_by_what_was_measured() -> None:
    about = {"network": "x", "workers": 2, "message_bytes": 4}
    rows = [
        {**about, "name": "sgp", "predicted_ms": 10.0, "measured_ms": 12.0, "ratio": 10 / 12},
        {**about, "name": "osgp", "predicted_ms": 11.0, "measured_ms": 10.0, "ratio": 1.1},
    ]
    [(chosen, best, excess)] = prediction.choices(rows)
    assert (chosen["name"], best["name"], excess) == ("sgp", "osgp", 1.2)
    assert "1 choices, at most 20.0% slower than the best" in prediction.summary(rows)
