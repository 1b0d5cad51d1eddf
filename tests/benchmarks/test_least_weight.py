"""The benchmark of least_weight runs, and its order of steps is that of the speeds it speaks of."""

from __future__ import annotations

import sys

import pytest
import torch

import least_weight
import sgp_core
from sgp_core.simulator.asynchronous import run_in_order
from tests.benchmarks.running import table_rows


def test_small_run_is_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = "--values 0 0.75 --scenarios slow stalls --steps 12 --seeds 1"
    monkeypatch.setattr(sys, "argv", ["least_weight", *words.split()])
    least_weight.main()
    rows = [cells[:2] for cells in table_rows(capsys.readouterr().out) if cells[0] != "scenario"]
    assert rows == [[scenario, value] for scenario in ("slow", "stalls") for value in ("0", "0.75")]


def test_a_slow_worker_takes_a_quarter_of_the_steps() -> None:
    order = least_weight.order_of("slow", 400, seed=0)
    taken = [order.count(rank) for rank in range(least_weight.WORKERS)]
    assert taken.pop(least_weight.SLOW_WORKER) == pytest.approx(100, abs=4)
    assert taken == pytest.approx([400] * 7, abs=8)


@pytest.mark.parametrize(("name", "graph"), [("asgp", "directed_ring"), ("adpsgd", "alternating_ring")])
def test_steps_in_turn_are_one_of_the_orders(name: str, graph: str) -> None:
    algorithm, topology = sgp_core.build_algorithm(name), sgp_core.build_topology(graph, world_size=4)
    target = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = torch.zeros(4, 3, dtype=torch.float64)
    in_turn = sgp_core.simulate(algorithm, topology, start, lambda z, step: (step + 1) * (z - target), steps=9)
    order = list(range(4)) * 9
    by_hand = run_in_order(
        algorithm, topology, start, lambda z, rank, step: (step + 1) * (z - target[rank]), order, record_every=4
    )
    assert torch.equal(by_hand.z, in_turn.z)
    assert torch.equal(by_hand.w, in_turn.w)
    assert torch.equal(by_hand.x_in_flight, in_turn.x_in_flight)
