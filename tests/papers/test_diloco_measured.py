"""The virtual clock against utilisation that others measured on shaped links, nothing fitted."""

from __future__ import annotations

import pytest

import diloco_measured


@pytest.mark.parametrize("mbit", [1000, 5000])
def test_averages_take_as_long_as_they_were_measured(mbit: int) -> None:
    measured = {1000: 1.51, 5000: 0.32}
    assert diloco_measured.average_s(mbit) == pytest.approx(measured[mbit], rel=0.05)


def test_utilisation_that_was_measured() -> None:
    found = {row.what: row for row in diloco_measured.find().rows}
    assert len(found) == 16
    for what, row in found.items():
        assert row.published is not None
        slow_link = "50 Mbit/s" in what  # their links of that rate carried less
        assert row.own == pytest.approx(row.published, rel=0.25 if slow_link else 0.1, abs=1e-3), what
