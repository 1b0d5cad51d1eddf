"""Averaging as a tool of its own: the exact mean, on any graph and with weights; real workers are the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

import sgp_core
from sgp_core.errors import ConfigurationError
from sgp_core.topology import MatrixTopology, Topology, build_topology
from tests.support.workers import run_workers
from tests.workers.agreement import Irregular

N = 4
WEIGHTS = [2.0, 0.0, 1.0, 0.5]

CASES: list[tuple[Any, bool, dict[str, Any]]] = [
    ("one_peer_exponential", False, {}),
    ("ring", False, {"tolerance": 1e-9}),
    ("ring", False, {"tolerance": 1e-9, "filter": "chebyshev"}),
    ("ring", True, {"rounds": 7}),
    (Irregular(N), False, {"tolerance": 1e-10}),
    (Irregular(N), True, {"tolerance": 1e-10}),
    ("random_matching", True, {"tolerance": 1e-7}),
    ("regions", False, {"tolerance": 1e-8}),
]
"""The graph, whether workers count as in WEIGHTS, and more."""


def values_of(rank: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(rank)
    long = torch.randn(20, 40, dtype=torch.float64, generator=generator)
    return {"long": long, "pair": [long[0, :3] + 1, torch.full((), float(rank), dtype=torch.float64)]}


def stacked() -> dict[str, Any]:
    every = [values_of(rank) for rank in range(N)]
    pair = [torch.stack([one["pair"][at] for one in every]) for at in (0, 1)]
    return {"long": torch.stack([one["long"] for one in every]), "pair": pair}


def work() -> list[Any]:
    rank = dist.get_rank()
    found: list[Any] = []
    for topology, weighted, options in CASES:
        weight = WEIGHTS[rank] if weighted else 1.0
        found.append(sgp_core.average(values_of(rank), topology=topology, weight=weight, **options))
    half = torch.full((3,), float(rank), dtype=torch.float16)
    found.append(sgp_core.average([half, half.float()], topology="base_k"))
    assert half.tolist() == [rank] * 3  # what was given stays
    for mistake in ({"rounds": 1 + rank}, {"weight": float(rank) - 1}, {"tolerance": 1e-30, "max_rounds": 9}):
        try:
            sgp_core.average(torch.ones(2) * rank, topology="ring", **mistake)
        except (ConfigurationError, RuntimeError) as error:
            found.append(str(error))
    return found


def test_real_workers_do_what_the_simulator_does_and_agree_on_when_to_stop() -> None:
    ranks = run_workers(N, work)
    together = stacked()
    for number, (topology, weighted, options) in enumerate(CASES):
        weights = WEIGHTS if weighted else None
        simulated = sgp_core.average_simulated(together, topology=topology, weights=weights, **options)
        exact = np.average(together["long"].numpy(), axis=0, weights=weights)
        for rank in range(N):
            real = ranks[rank][number]
            assert real.rounds == simulated.rounds
            assert (real.value["long"] - simulated.value["long"][rank]).abs().max() <= 1e-12
            for at in (0, 1):
                assert (real.value["pair"][at] - simulated.value["pair"][at][rank]).abs().max() <= 1e-12
            if "rounds" not in options:
                assert real.distance == ranks[0][number].distance == pytest.approx(simulated.distance, abs=1e-13)
                # root mean square of the norms; weighted by 0, a worker's own value plays no part
                off = np.linalg.norm(real.value["long"].numpy() - exact)
                assert off <= options.get("tolerance", 1e-6) * 1.1 * np.sqrt(20 * 40) * 1.5
        assert simulated.bytes_sent == pytest.approx(np.mean([ranks[rank][number].bytes_sent for rank in range(N)]))
    for rank in range(N):
        halves = ranks[rank][len(CASES)]
        assert [tensor.dtype for tensor in halves.value] == [torch.float16, torch.float32]
        assert torch.stack([tensor.float() for tensor in halves.value]).sub(1.5).abs().max() <= 2e-3
        other, weight, never = ranks[rank][len(CASES) + 1 :]
        assert "were given another stopping rule than rank 0" in other
        assert weight == "weights are finite and 0 or more, and not all 0, not -1, 0, 1, 2"
        assert never.startswith("averaging has not reached the tolerance of 1e-30 in 9 rounds: a worker is")


@given(
    name=st.sampled_from(["ring", "directed_ring", "star", "base_k", "equidyn", "exponential", "spanning_tree"]),
    n=st.integers(1, 12),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_weighted_averages_are_exact_on_every_graph(name: str, n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    options = {"weights": "uniform"} if name in ("star", "spanning_tree") else {}  # column-stochastic only
    values = torch.randn(n, 5, dtype=torch.float64, generator=generator)
    weights = (torch.rand(n, generator=generator) + (torch.arange(n) == 0)).tolist()
    found = sgp_core.average_simulated(
        values, topology=build_topology(name, n, **options), weights=weights, tolerance=1e-11
    )
    exact = np.average(values.numpy(), axis=0, weights=weights)
    np.testing.assert_allclose(found.value, np.tile(exact, (n, 1)), rtol=0, atol=1e-10)
    assert found.distance is not None
    assert found.distance <= 1e-11


@dataclass(frozen=True)
class Lossy(MatrixTopology):
    """Every message of another graph is lost with a probability; its sender knows, and keeps the share."""

    graph: Topology
    lost: float

    @property
    def period(self) -> None:
        return None

    def mixing_matrix(self, step: int) -> np.ndarray:
        matrix = self.graph.mixing_matrix(step).copy()
        lost = np.random.default_rng([7, step]).random(matrix.shape) < self.lost
        gone = np.where(lost & ~np.eye(len(matrix), dtype=bool), matrix, 0)
        return matrix - gone + np.diag(gone.sum(axis=0))


def test_lost_messages_cost_rounds_and_no_mass() -> None:
    """Such graphs are not doubly stochastic: averages without PushSum weights would be wrong."""
    values = torch.arange(16, dtype=torch.float64).unsqueeze(1)
    rounds = []
    for lost in (0.0, 0.2, 0.5):
        graph = Lossy(16, build_topology("one_peer_exponential", 16), lost)
        found = sgp_core.average_simulated(values, topology=graph, tolerance=1e-10)
        assert (found.value - 7.5).abs().max() < 1e-8
        rounds.append(found.rounds)
    assert rounds[0] == 4 < rounds[1] < rounds[2]


def test_chebyshev_needs_fewer_rounds() -> None:
    values = torch.randn(64, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plain, fast = (
        sgp_core.average_simulated(values, topology="ring", tolerance=1e-6, filter=name)
        for name in ("plain", "chebyshev")
    )
    for found in (plain, fast):
        assert (found.value - values.mean(0)).norm(dim=1).max() <= 1e-6 * values.norm() / 8
    assert 10 * fast.rounds < plain.rounds


def test_zeros_and_one_worker_are_done_at_once() -> None:
    assert sgp_core.average_simulated(torch.zeros(8, 3)).rounds == 3
    alone = sgp_core.average(torch.arange(3.0), weight=2.0)
    assert (alone.value.tolist(), alone.rounds) == ([0.0, 1.0, 2.0], 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rounds": 3, "tolerance": 0.1}, "average takes rounds or a tolerance, not both"),
        ({"rounds": -1}, "rounds must be 0 or more, not -1"),
        ({"tolerance": 0.0}, "tolerance must be positive, not 0.0"),
        ({"filter": "cheby"}, "average has no filter 'cheby'; known: plain, chebyshev"),
        ({"filter": "chebyshev"}, "Chebyshev acceleration needs symmetric mixing weights that never change"),
        ({"weights": [1, 2]}, "weights are 4 numbers, one a worker, not 2"),
        ({"topology": "ring", "weights": [1, 1, 1, 2], "filter": "chebyshev"}, "averages workers that count alike"),
        ({"weights": [0, 0, 0, 0]}, "weights are finite and 0 or more, and not all 0"),
    ],
)
def test_mistakes(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        sgp_core.average_simulated(torch.ones(4, 2), **given)


def test_what_is_no_number_or_no_float_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="average takes floating-point tensors"):
        sgp_core.average_simulated(torch.ones(4, 2, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="not finite, on one worker at least"):
        sgp_core.average_simulated(torch.tensor([[1.0], [float("nan")]]))
