"""The benchmarks of links with faults run: without shares that are sent again mass is missing, with them none is."""

from __future__ import annotations

import sys

import pytest

import lossy_links
import running_sums
from tests.benchmarks.running import table_rows


def test_small_run_is_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = "--workers 3 --partitions label --drops 0.3 --delay 2 --steps 16 --meet 8 --seeds 1 --compute-ms 2"
    monkeypatch.setattr(sys, "argv", ["lossy_links", *words.split()])
    lossy_links.main()
    plain, again, lost = (cells for cells in table_rows(capsys.readouterr().out) if cells[0] != "data")
    assert [row[:4] for row in (plain, again, lost)] == [
        ["label", "0%", "no", "no"],
        ["label", "30%", "up to 2 steps", "yes"],
        ["label", "30%", "up to 2 steps", "no"],
    ]
    for row in (plain, again):
        assert float(row[7]) <= 1e-12
        assert float(row[8]) <= 1e-5
    assert float(lost[7]) > 0.01


def test_running_sums_lose_no_mass_either_but_weights_get_small(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["running_sums", "--at", "10", "40", "--long", "40"])
    running_sums.main()
    rows = [cells for cells in table_rows(capsys.readouterr().out) if cells[0] != "links"]
    assert len(rows) == 2 * len(running_sums.LINKS)
    for again, sums in zip(rows[::2], rows[1::2], strict=True):
        assert float(again[-1]) <= 1e-5
        assert float(sums[-1]) <= 1e-4
        assert float(sums[-2]) < 0.3 < float(again[-2])
