"""The page of the theory is made from what the scripts of benchmarks/papers find."""

from __future__ import annotations

import json
import runpy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from comparison import Comparison, Findings
from tests.docs.pages import ROOT


@pytest.fixture(scope="module")
def maker() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "make_theory.py"), run_name="make_theory")


def test_tables_and_pictures_are_made_from_files(maker: dict[str, Any], tmp_path: Path) -> None:
    found = Findings([Comparison("x", 2.0, 1.5, "table 1")], {"a": {"own": [(1, 1), (2, 0.1)]}}, ["A note."])
    for name in maker["PICTURES"]:
        (tmp_path / f"{name}.json").write_text(json.dumps({"about": {"benchmark": name}, **asdict(found)}))
    collected = maker["collect"](tmp_path)
    page = maker["with_tables"](maker["PAGE"].read_text(encoding="utf-8"), collected)
    assert page.count("| x | 1.5 | - | 2 | +0.5 | table 1 |\n\n*A note.*\n<!-- end of table -->") == len(collected)
    assert maker["with_tables"](page, collected) == page
    maker["draw"](collected, tmp_path / "pictures")
    assert len(list((tmp_path / "pictures").glob("*.svg"))) == len(collected)


def test_page_has_all_tables_and_pictures(maker: dict[str, Any]) -> None:
    page = maker["PAGE"].read_text(encoding="utf-8")
    scripts = {path.stem for path in maker["SCRIPTS"].glob("*.py")} - {"comparison"}
    assert scripts == set(maker["PICTURES"])
    for name in maker["PICTURES"]:
        table = page.split(maker["BEGIN"].format(name=name))[1].split(maker["END"])[0]
        assert table.startswith("\n|  | published | theory | own | difference | source |")
        assert 1000 < (maker["IMAGES"] / f"{name}.svg").stat().st_size < 200_000
