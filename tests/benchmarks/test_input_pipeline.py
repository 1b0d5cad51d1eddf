"""The benchmark of the input pipeline, small: what it prints and writes. No test looks at timings."""

from __future__ import annotations

from pathlib import Path

import pytest

import input_pipeline
from tests.benchmarks.running import run_small


def test_small_run_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = input_pipeline.make_up(tmp_path / "images", 200, 32, 32)
    options = f"--path {images} --models cnn --processes 0 1 --rounds 1 --steps 2 --photographs 20"
    about, rows = run_small(input_pipeline, options, tmp_path, monkeypatch)
    assert (about["workers"], about["rounds"]) == (2, 1)
    assert [(row.get("place"), row["processes"]) for row in rows] == [
        *(("memory", 0), ("memory", 1), ("files", 0), ("files", 1)),
        *((None, 0), (None, 1)),
    ]
    assert all(0 < row["share"] < 1 and row["data_ms"] < row["step_ms"] for row in rows[:4])
    assert all(row["images_per_s"] > 0 for row in rows[4:])
    assert "| cnn | files | 1 |" in capsys.readouterr().out
