"""The experiments of benchmarks/papers, small, against published values and closed forms."""

from __future__ import annotations

import math

import pytest

import consensus
import delayed_push_sum
import gradient_norm
import graph_filter
import linear_speed_up
import moshpit_averaging
import random_quadratics
import random_targets
import sgp_core
import slowmo_quadratic
import speed_up_in_seconds
from comparison import Comparison


def test_fixed_graphs_reach_a_precision_when_their_eigenvalue_says() -> None:
    for row in consensus.fixed_graphs(8):
        assert row.own == row.theory, row.what


def test_exact_graphs_are_exact_when_published() -> None:
    for row in consensus.exact_graphs():
        if row.reference is not None:
            assert row.own == pytest.approx(row.reference, abs=1e-12), row.what
        else:
            assert row.own == pytest.approx(0.209, abs=5e-4)


def test_random_targets_halve_the_potential_and_need_logarithmically_many_rounds() -> None:
    assert random_targets.contraction(16, seeds=40) == pytest.approx(0.5 - 1 / 64, abs=0.02)
    found = random_targets.find(sizes=(16, 64), seeds=6)
    for row in found.rows[2:]:
        assert row.own == pytest.approx(row.theory, abs=3), row.what


@pytest.mark.parametrize(
    ("delay", "after_24", "after_48"), [(1, 3.74e-3, 3.86e-6), (2, 0.132, 2.8e-3), (4, 0.659, 0.092)]
)
def test_delayed_shares_slow_the_mean_down_and_the_weight_removes_the_bias(
    delay: int, after_24: float, after_48: float
) -> None:
    run = delayed_push_sum.delayed(delay)
    errors = delayed_push_sum.errors(run)
    assert errors[24] == pytest.approx(after_24, rel=0.02)
    assert errors[48] == pytest.approx(after_48, rel=0.02)
    assert delayed_push_sum.rate(errors) == pytest.approx(delayed_push_sum.rate_by_eigenvalues(delay), abs=3e-3)
    assert float((run.x[-1] - delayed_push_sum.MEAN).abs().mean()) > 1


def test_slowmo_follows_its_recursion() -> None:
    assert slowmo_quadratic.blocks(0.01, 48, 0.6, 4)[1:] == pytest.approx(
        [0.61729, 0.151421, -0.186051, -0.31733], abs=1e-6
    )
    r = 0.99**12
    left = slowmo_quadratic.left_a_block(slowmo_quadratic.blocks(0.01, 12, slowmo_quadratic.best(r), 4))
    assert left == pytest.approx(1 - math.sqrt(1 - r), abs=1e-6)


def test_moshpits_sgp_column_is_of_the_method_as_printed() -> None:
    assert moshpit_averaging.as_printed(512, 0.0)[:2] == moshpit_averaging.PUBLISHED[512, 0.0]["sgp"]


def test_sgp_is_exact_without_failures_and_keeps_the_mean_with_them() -> None:
    graph = sgp_core.build_topology("one_peer_exponential", world_size=64)
    rounds = {}
    for p in (0.0, 0.02):
        failing = moshpit_averaging.Failing(64, of=graph, p=p)
        run = moshpit_averaging.gossip(failing, seed=0, rounds=40)
        rounds[p] = moshpit_averaging.first_below(run.z.squeeze(2).numpy().var(axis=1))[0]
        assert float(run.z[-1].mean() - run.z[0].mean()) == pytest.approx(0, abs=1e-4)
        assert float(run.x.sum((1, 2)).var()) < 1e-24
    assert rounds[0.0] == 6 < rounds[0.02]


@pytest.mark.parametrize("name", sorted({name for name, _ in random_quadratics.PUBLISHED}))
def test_random_quadratics_take_the_published_steps(name: str) -> None:
    for zeta2 in (0.01, 1.0):
        tuned = random_quadratics.PUBLISHED[name, zeta2]
        steps, noted = tuned[6]
        assert random_quadratics.steps_to_target(name, 6, zeta2, 2 * noted, steps + 9) == steps


def test_noise_floor_falls_like_one_over_n_and_samples_per_worker_too() -> None:
    for row in linear_speed_up.noise_floors((4, 32), steps=200).rows:
        assert row.own == pytest.approx(row.theory, rel=0.15), row.what
    few, many = linear_speed_up.samples_per_worker((8, 32), target=0.1).rows
    assert few.own / many.own == pytest.approx(4, rel=0.1)


def test_gradient_norm_is_that_of_sgd_with_as_many_samples() -> None:
    found = gradient_norm.find(sizes=(1, 4), totals=(1024, 4096), seeds=1)
    for row in found.rows:
        assert row.own == pytest.approx(row.theory, abs=0.06), row.what


def test_a_step_of_sgp_takes_as_long_however_many_workers_there_are_and_one_of_allreduce_longer() -> None:
    seconds = {
        name: [speed_up_in_seconds.step_seconds(name, "ethernet_10g", n, steps=20) for n in (4, 32)]
        for name in ("allreduce", "sgp", "osgp")
    }
    assert seconds["sgp"][1] == pytest.approx(seconds["sgp"][0], rel=0.04)
    assert seconds["osgp"] == pytest.approx([0.271, 0.271], rel=0.03)
    assert seconds["allreduce"][1] > 1.1 * seconds["allreduce"][0] > 1.2 * seconds["sgp"][0]


def test_accelerated_rounds_leave_what_chebyshevs_polynomial_does() -> None:
    ring = sgp_core.build_topology("ring", world_size=16)
    assert graph_filter.left(ring, 10, "chebyshev") == pytest.approx(0.077011, abs=1e-6)
    assert graph_filter.rounds_to(ring, 1e-2, "plain") == 89
    assert graph_filter.rounds_to(ring, 1e-2, "chebyshev") == 17


def test_rows_say_what_ours_is_compared_with() -> None:
    assert Comparison("a", 9, 9, "table 1").cells() == ["a", "9", "-", "9", "0", "table 1"]
    assert Comparison("a", 1.5, theory=1).cells()[1:] == ["-", "1", "1.5", "+0.5", "no published number"]
    assert Comparison("a", 2, theory=3, is_bound=True).cells()[2:5] == ["at most 3", "2", "within"]
    assert Comparison("a", 2).cells()[1:5] == ["-", "-", "2", "-"]
