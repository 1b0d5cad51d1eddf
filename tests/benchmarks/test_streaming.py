"""Streaming beside the others: trained by virtual workers, and by real ones behind a thin link for as many steps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import streaming
from suite import network
from suite.map.tasks import TASKS, Rule
from tests.benchmarks.running import run_small, table_rows
from tests.support.packages import SLOW_NETWORK, give_up, require

QUICK = dataclasses.replace(TASKS["verses"], most_steps=8, every=4, target=100.0)
ALONE = ("algorithm=local_sgd", "algorithm.period=0", "outer=diloco", "outer.tau=4")


def test_it_trains_and_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require(SLOW_NETWORK)
    try:
        network.check()
    except network.Unavailable as reason:
        give_up(str(reason))
    monkeypatch.setitem(TASKS, "verses", QUICK)
    monkeypatch.setattr(streaming, "RATES", {"verses": (0.004,)})
    rules = (Rule("allreduce", 1, ("algorithm=allreduce",)), Rule("stream", 1, (*ALONE, "outer.fragments=4")))
    monkeypatch.setattr(streaming, "RULES", rules)
    options = f"--workers 2 --mbit 400 --step-ms 1 --rounds 1 --contenders allreduce stream --runs {tmp_path / 'runs'}"
    about, rows = run_small(streaming, options, tmp_path, monkeypatch)
    assert (about["task"], about["mbit"], about["step_ms"]) == ("verses", 400.0, 1.0)
    allreduce, stream = rows
    assert [cells[0] for cells in table_rows(capsys.readouterr().out)] == ["allreduce", "stream"]
    for row in rows:
        assert row["steps"] == 4
        assert row["bytes_per_step"] > 0.9 * row["predicted_bytes_per_step"]
        assert row["speedup"] == pytest.approx(allreduce["seconds"] / row["seconds"])
        assert len(row["rounds"]) == 1
    assert stream["predicted_bytes_per_step"] == pytest.approx(allreduce["predicted_bytes_per_step"] / 4, rel=1e-3)
