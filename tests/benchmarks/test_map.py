"""The map: trained by virtual workers, predicted by the clock, and measured with real workers behind real links."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest
import torch

import map as the_map
from sgp_core.clock import ComputationModel
from suite import network
from suite.map.cells import REGIONS, Cell
from suite.map.curves import Curve
from suite.map.real import paced
from suite.map.tasks import GRAPHS, RULES, TASKS
from tests.benchmarks.running import run_small
from tests.support.packages import SLOW_NETWORK, give_up, require

QUICK = dataclasses.replace(TASKS["verses"], most_steps=8, every=4, target=100.0, step_ms=1.0)


@pytest.fixture(scope="module")
def machine() -> None:
    require(SLOW_NETWORK)
    try:
        network.check()
    except network.Unavailable as reason:
        give_up(str(reason))


def test_it_trains_predicts_and_measures(
    machine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TASKS, "verses", QUICK)
    monkeypatch.setattr(the_map, "MEASURED", [Cell(200.0, 0.0, "none"), REGIONS])
    options = f"--task verses --workers 2 --rules allreduce osgp sgp/regions --measure 60 --runs {tmp_path / 'runs'}"
    about, rows = run_small(the_map, options, tmp_path, monkeypatch)
    assert about["task"] == "verses"
    usual = [row for row in rows if "thin_mbit" not in row]
    assert len(usual) == 24 * 3
    assert len(rows) - len(usual) == 4
    by_name = {(row["name"], the_map.cell_of(row)): row for row in rows}
    for cell in {the_map.cell_of(row) for row in rows if not row["delay_ms"]}:
        assert by_name["ddp", cell]["seconds"] <= by_name["allreduce", cell]["seconds"]
    for row in rows:
        assert row["steps"] == 4
        assert row["seconds"] == pytest.approx(4 * row["step_ms"] / 1e3)
        assert 0 < row["utilisation"] <= 1
    measured = [row for row in rows if "measured" in row]
    assert sorted(row["name"] for row in measured) == ["allreduce", "allreduce", "osgp", "osgp", "sgp/regions"]
    for row in measured:
        took = row["measured"]
        least = row["busiest_link_bytes"] * 8 / 1e3 / row["mbit"]  # ms
        assert took["step_ms"] >= 0.5 * least  # two steps, of which the first finds an empty bucket of 128 KB
        assert took["bytes_per_step"] > 0.9 * row["bytes_per_step"]
        assert took["score"] == pytest.approx(virtual_loss(tmp_path, row["name"]), rel=1e-4)
    assert "predicted" in capsys.readouterr().out


def virtual_loss(folder: Path, name: str) -> float:
    """Return the loss that virtual workers had after as many steps."""
    from suite.map.curves import read

    curve = read(folder / "runs" / "verses-2" / f"{name.replace('/', '-')}-0.004")
    assert curve is not None
    return curve.points[0][1]


def test_a_paced_step_lasts_as_long_as_the_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    computation = ComputationModel.from_options({"name": "slow_worker", "worker": 1, "times": 3.0, "step_ms": 10.0})
    model, acted = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1)), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step() -> None:
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        acted.append(time.perf_counter())  # what a rule does with gradients comes after the computation
        optimizer.step()

    with paced(computation, 0) as pace:
        for _ in range(3):
            step()
    assert pace.computed == [0.03, 0.03]
    assert all(begin - end >= 0.03 for end, begin in zip(pace.ends, acted[1:], strict=False))
    step()
    assert len(pace.ends) == 3


def test_the_best_learning_rate_counts() -> None:
    slow, quick = Curve([(8, 3.0, None), (16, 2.0, 1.5)], {}), Curve([(8, 2.0, 0.5), (16, 2.5, 1.0)], {})
    assert (slow.steps_to(2.0), slow.seconds_to(2.0)) == (16, 1.5)
    assert (quick.steps_to(2.0), quick.seconds_to(2.0)) == (8, 0.5)
    assert quick.steps_to(1.0) is None


def test_names_and_cells_are_unique() -> None:
    names = [rule.name for rule in (*RULES, *GRAPHS)]
    assert len(set(names)) == len(names)
    assert {"allreduce", "sgp-128", "osgp/regions"} <= set(names)
    assert REGIONS.network.regions_of(8)[0].up.bandwidth_mbit == REGIONS.thin_mbit
