"""The benchmark of the timeline runs, and takes its ratios within a round. No test looks at timings."""

from __future__ import annotations

from pathlib import Path

import pytest

import tracing
from tests.benchmarks.running import run_small, table_rows


def test_small_run_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--workers 2 --parameters 20000 --compute-ms 2 --rounds 2 --steps 3"
    about, rows = run_small(tracing, options, tmp_path, monkeypatch)
    assert [cells[0] for cells in table_rows(capsys.readouterr().out)] == list(tracing.CONTENDERS)
    assert about["steps"] == 3
    for row in rows:
        assert min(row["off_ms"], row["on_ms"]) >= 2
        assert len(row["rounds"]["off"]) == len(row["rounds"]["on"]) == 2
        assert row["trace_bytes"] > 500  # data, forward, backward, optimizer, an exchange, a message, the step


def test_ratios_are_taken_round_by_round() -> None:
    def turns(*seconds: float) -> list[dict[str, float]]:
        return [{"seconds": s, "cpu_seconds": s / 2} for s in seconds]

    found = {"sgp, p2p": {"off": turns(1, 10, 2), "on": turns(1.5, 11, 2.02), "bytes": 300}}
    [row] = tracing.rows_of(found, workers=4, steps=3)
    assert row["off_ms"] == 2000
    assert row["overhead"] == pytest.approx(0.1)  # of 0.5, 0.1, 0.01
    assert row["cpu_more_ms"] == pytest.approx(250)  # of 0.25, 0.5, 0.01 s
    assert row["cpu_share"] == pytest.approx(0.125)
    assert row["trace_bytes"] == 100
