"""The front page leads with what was measured: its table and picture are of docs/benchmarks.md."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "docs" / "make_front_page.py"), run_name="make_front_page")


def test_the_table_is_what_the_benchmarks_measured() -> None:
    front, page = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/benchmarks.md"))
    assert SCRIPT["with_table"](front, page) == front
    assert front.index("front_page.svg") < front.index("results.svg")
    seconds, (stalled, least) = SCRIPT["seconds_to_loss"](page), SCRIPT["stalled_ms"](page)
    assert seconds["`osgp`"] < seconds["`sgp`"] < seconds["AllReduce (torch DDP)"]
    assert least <= min(stalled.values())


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    SCRIPT["draw"](page, tmp_path / "front.svg")
    drawn = (tmp_path / "front.svg").read_text()
    assert "osgp, int8" in drawn
    assert "AllReduce" in (ROOT / "docs" / "images" / "front_page.svg").read_text()


def test_a_table_that_is_gone_is_named() -> None:
    with pytest.raises(ValueError, match="has no table '8 workers, 200 Mbit/s'"):
        SCRIPT["table"]("# Benchmarks\n")
