"""The page of the benchmarks is made from what the benchmarks write."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

import slow_network
import step_overhead
import stragglers
import tracing
from suite import maxplus, tables
from suite.contenders import all_contenders
from tests.docs.pages import ROOT

ABOUT = {"torch": "2.9", "cores": 2, "load": 0.1, "rounds": 2}


@pytest.fixture(scope="module")
def maker() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "make_benchmarks.py"), run_name="make_benchmarks")


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """Files of all benchmarks, with invented figures."""
    series = {
        name: {"seconds": [k, k], "cpu_seconds": [k, k], "bytes_per_step": 8.0, "memory_bytes": 4e6 * k}
        for k, name in enumerate(all_contenders(), start=1)
    }
    rows = step_overhead.rows_of(8, "mlp_2.5M", 1_000_000, series)
    tables.save(tmp_path / "a.json", {"benchmark": "step_overhead", **ABOUT, "left_out": {"X": "not installed"}}, rows)
    training = {"step_s": [0.5, 0.5], "losses": [[1.0, 0.5]] * 2, "ends_s": [[1.0, 2.0]] * 2, "bytes_per_step": 1e7}
    found = {"bare_message_s": 0.4, "contenders": dict.fromkeys(slow_network.CONTENDERS, training)}
    for delay in (0.0, 5.0):
        about = {"workers": 8, "mbit": 200.0, "delay_ms": delay, "message_bytes": 10**7, "target_loss": 0.8}
        rows = slow_network.rows_of(found, slow_network.Network(0.2, 0.4, 0.0, 8), about)
        tables.save(tmp_path / f"b-{delay}.json", {"benchmark": "slow_network", **ABOUT}, rows)
    rows = []
    for scenario in stragglers.SCENARIOS:
        times = {
            name: {"times": [maxplus.alone([[0.1] * 8] * 4)], "ages": [None] * 8} for name in stragglers.CONTENDERS
        }
        rows += stragglers.rows_of(scenario, times, compute_s=0.1, warm=1)
    tables.save(tmp_path / "c.json", {"benchmark": "stragglers", **ABOUT}, rows)
    turns = [{"seconds": 0.1, "cpu_seconds": 0.02}] * 2
    traced = {name: {"off": turns, "on": turns, "bytes": 2000} for name in tracing.CONTENDERS}
    row = {"model": "mlp_2.5M", "name": "eager", "first_leaves": 0.2, "last_leaves": 1.1}
    tables.save(tmp_path / "e.json", {"benchmark": "in_backward", **ABOUT}, [row])
    rows = [{"model": "cnn", "place": "files", "processes": 1, "step_ms": 9.0, "data_ms": 0.09, "share": 0.01}]
    rows.append({"processes": 1, "images_per_s": 1000.0})
    tables.save(tmp_path / "f.json", {"benchmark": "input_pipeline", **ABOUT}, rows)
    row = {"name": "torchft", "every_s": 15.0, "failures": 8, "restarts": 8, "rate": 900.0, "goodput": 0.75}
    tables.save(tmp_path / "g.json", {"benchmark": "goodput", **ABOUT}, [row])
    row = {"workload": "digits", "seed": 1, "killed": 10, "failures": 20, "accuracy": 0.96, "difference": -0.01}
    tables.save(tmp_path / "h.json", {"benchmark": "elastic_kills", **ABOUT}, [{**row, "mass_defect": 2e-9}])
    tables.save(tmp_path / "d.json", {"benchmark": "tracing", **ABOUT}, tracing.rows_of(traced, workers=4, steps=2))
    return tmp_path


def test_tables_and_pictures_are_made_from_files(maker: dict[str, Any], measured: Path, tmp_path: Path) -> None:
    found = maker["collect"](measured)
    assert {name: len(files) for name, files in found.items()} == {
        "step_overhead": 1,
        "slow_network": 2,
        "stragglers": 1,
        "tracing": 1,
        "in_backward": 1,
        "input_pipeline": 1,
        "goodput": 1,
        "elastic_kills": 1,
    }
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    made = maker["with_tables"](page, found)
    assert maker["with_tables"](made, found) == made
    assert "*torch 2.9, 2 cores, load 0.1 before it began; 2 rounds.* *Left out: X: not installed.*" in made
    assert "**8 workers, mlp_2.5M, 1.0 M parameters** (compute 1000.0 ms)" in made
    assert "**8 workers, 200 Mbit/s, 5 ms each way**: one message of 10.0 MB takes 400 ms on the wire" in made
    assert "| osgp, overlap_steps=1 | 500 | 400 | 1.25 | 10.0 | 2 | 2.0 | 1.00 |" in made
    assert made.count("| allreduce | 100 |") == 3
    assert "| sgp, p2p | 100.0 | 100.0 | +0.0% | 20.0 | 0.00 | +0.0% | 1.0 |" in made
    assert "| mlp_2.5M | eager | - | 20% | 110% | - | - | - |" in made
    assert "| cnn | files | 1 | 9.0 | 0.09 | 1.0% |" in made
    assert "| torchft | 15 s | 8 | 8 | 900 | 75% | - |" in made
    assert "| digits | 1 | 10 + 10 | - | - | 96.00 | - | -1.00 | - | - | 2e-09 |" in made
    assert made.split("<!--")[0] == page.split("<!--")[0]
    maker["draw"](found, tmp_path / "pictures")
    for name in maker["PAINTERS"]:
        assert "svg" in (tmp_path / "pictures" / f"{name}.svg").read_text()[:200]


def test_page_has_all_tables_and_pictures(maker: dict[str, Any]) -> None:
    page = maker["PAGE"].read_text(encoding="utf-8")
    for name in maker["WRITERS"]:
        table = page.split(maker["BEGIN"].format(name=name))[1].split(maker["END"])[0]
        assert "| contender | " in table or "| model | " in table
        assert "cores, load" in table
    for name in maker["PAINTERS"]:
        assert 1000 < (maker["IMAGES"] / f"{name}.svg").stat().st_size < 200_000


def test_files_are_plain_json(measured: Path) -> None:
    for path in measured.glob("*.json"):
        assert set(json.loads(path.read_text(encoding="utf-8"))) == {"about", "rows"}
