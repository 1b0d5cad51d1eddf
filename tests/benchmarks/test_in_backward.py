"""The benchmark of steps inside backward, small."""

from __future__ import annotations

from pathlib import Path

import pytest

import in_backward
from tests.benchmarks.running import run_small


def test_the_first_part_leaves_before_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--models mlp_2.5M --ways eager --rounds 2"
    about, rows = run_small(in_backward, options, tmp_path, monkeypatch)
    assert about["rounds"] == 2
    [row] = rows
    assert row["parts"] == 3
    assert 0 < row["first_leaves"] < row["last_leaves"]
    assert "| mlp_2.5M | eager |" in capsys.readouterr().out
