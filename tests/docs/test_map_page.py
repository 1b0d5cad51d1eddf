"""The page of the map is made from what its benchmark finds."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT


@pytest.fixture(scope="module")
def maker() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "make_map.py"), run_name="make_map")


def row(name: str, seconds: float | None, **more: Any) -> dict[str, Any]:
    family, _, period = name.partition("-")
    figures = {"step_ms": 80.0, "utilisation": 0.5, "bytes_per_step": 1e6, "busiest_link_bytes": 2e6, "rate": 0.01}
    cell = {"mbit": 200.0, "delay_ms": 5.0, "stragglers": "none"}
    return {**cell, "name": name, "family": family, "period": int(period or 1), "steps": 64, "seconds": seconds} | {
        **figures,
        **more,
    }


MEASURED = {"seconds": 31.0, "utilisation": 0.48, "bytes_per_step": 1.05e6, "score": 3.21}


def test_measured_and_predicted_are_told_apart(maker: dict[str, Any]) -> None:
    rows = [row("allreduce", 64.0), row("sgp", None), row("sgp-8", 30.0, measured=MEASURED), row("sgp-32", 33.0)]
    table = maker["seconds_table"](rows)
    assert table.splitlines()[2:] == ["| none | 200 | 5 | 64 | → **31** / 8 |"]
    [line] = maker["measured_table"]([row for row in rows if "measured" in row]).splitlines()[2:]
    assert "| 31.0 | 30.0 | 0.97 | 48% | 50% | 1.05 | 1.00 | 3.21 |" in line


def test_the_page_is_that_of_the_results(maker: dict[str, Any]) -> None:
    page = maker["PAGE"].read_text(encoding="utf-8")
    files = sorted(maker["RESULTS"].glob("map*.json"))
    assert files
    for file in files:
        written = json.loads(file.read_text(encoding="utf-8"))
        for name, text in maker["parts"](written["about"], written["rows"]).items():
            assert maker["with_part"](page, f"{written['about']['task']} {name}", text) == page, name
    published = maker["published_table"](maker["load_published"]())
    assert maker["with_part"](page, maker["PUBLISHED"], published) == page


def test_pictures_are_drawn(maker: dict[str, Any], tmp_path: Path) -> None:
    rows = [row("allreduce", 64.0), row("sgp-8", 30.0, measured=MEASURED)]
    maker["draw_map"](rows, tmp_path / "map.svg")
    maker["draw_measured"](rows, tmp_path / "measured.svg")
    assert "<svg" in (tmp_path / "map.svg").read_text()
    assert "<svg" in (tmp_path / "measured.svg").read_text()
