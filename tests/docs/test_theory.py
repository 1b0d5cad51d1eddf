"""The page of the theory is made from what the scripts of benchmarks/papers find."""

from __future__ import annotations

import json
import runpy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from comparison import Comparison, Findings
from launcher.config.compose import compose
from launcher.config.make_plan import make_plans
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
    assert page.count("*A note.*\n\n<details><summary>1 numbers</summary>\n\n|  | published |") == len(collected)
    assert page.count("| x | 1.5 | - | 2 | +0.5 | table 1 |\n\n</details>\n<!-- end of table -->") == len(collected)
    assert maker["with_tables"](page, collected) == page
    maker["draw"](collected, tmp_path / "pictures")
    assert len(list((tmp_path / "pictures").glob("*.svg"))) == len(collected)


@pytest.fixture(scope="module")
def stragglers() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "make_stragglers.py"), run_name="make_stragglers")


def test_times_to_an_accuracy_are_read_between_evaluations(stragglers: dict[str, Any], tmp_path: Path) -> None:
    target = stragglers["TARGET"]
    assert stragglers["seconds_to_target"]([(1.0, target - 0.1), (3.0, target + 0.1)]) == pytest.approx(2.0)
    assert stragglers["seconds_to_target"]([(1.0, target - 0.1)]) == float("inf")
    late = [[(2.0, target), (3.0, 1.0)]]
    found = {scenario: {**dict.fromkeys(stragglers["CURVES"], late)} for scenario in stragglers["SCENARIOS"]}
    for curves in found.values():
        curves["asynchronous SGP"] = [[(1.0, target), (3.0, 1.0)]]
    table = stragglers["table"](found)
    assert "| asynchronous SGP | 1.0 (1.0 to 1.0), 2.0 times as fast | 1.0 (1.0 to 1.0), 2.0 times as fast |" in table
    page = stragglers["with_table"](stragglers["PAGE"].read_text(encoding="utf-8"), table)
    assert stragglers["with_table"](page, table) == page
    stragglers["draw"](found, tmp_path / "it.svg")
    assert "svg" in (tmp_path / "it.svg").read_text(encoding="utf-8")[:200]


def test_runs_with_stragglers_compose(stragglers: dict[str, Any]) -> None:
    words = [*stragglers["COMMON"], *stragglers["STALLS"], *stragglers["CURVES"]["AD-PSGD"]]
    assert len(make_plans(compose(words))) == len(stragglers["SEEDS"])
    page = stragglers["PAGE"].read_text(encoding="utf-8")
    table = page.split(stragglers["BEGIN"])[1].split(stragglers["END"])[0]
    assert all(f"| {name} | " in table for name in stragglers["CURVES"])
    assert 1000 < stragglers["PICTURE"].stat().st_size < 200_000


def test_page_has_all_tables_and_pictures(maker: dict[str, Any]) -> None:
    page = maker["PAGE"].read_text(encoding="utf-8")
    scripts = {path.stem for path in maker["SCRIPTS"].glob("*.py")} - {"comparison"}
    assert scripts == set(maker["PICTURES"]) | maker["ELSEWHERE"]
    for name in maker["PICTURES"]:
        table = page.split(maker["BEGIN"].format(name=name))[1].split(maker["END"])[0]
        assert "\n|  | published | theory | own | difference | source |" in table
        assert 1000 < (maker["IMAGES"] / f"{name}.svg").stat().st_size < 200_000
