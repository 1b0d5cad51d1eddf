"""Where a topology is weak, and which is better: residuals in closed form, and every better graph is better."""

from __future__ import annotations

from math import pi, sin
from typing import Any

import pytest

from sgp_core.topology import TOPOLOGIES, Topology, build_topology
from sgp_core.topology.advice import PRECISION, Advice, advise
from sgp_core.topology.analysis import analyse, distance_to_mean, product, steps_to


def advice_on(name: str, n: int, **options: object) -> tuple[Topology, Advice]:
    topology = build_topology(name, n, **options)
    return topology, advise(topology, analyse(topology))


@pytest.mark.parametrize("n", [3, 5, 6, 7, 9, 10, 12, 24, 31, 33, 63])
def test_residual_of_a_period_in_closed_form(n: int) -> None:
    """Component m of the ring keeps |sin(2^p pi m / n) / (2^p sin(pi m / n))|: the product's matrices are circulant."""
    topology = build_topology("one_peer_exponential", n)
    powers = 1 << topology.period
    kept = max(abs(sin(powers * pi * m / n) / (powers * sin(pi * m / n))) for m in range(1, n))
    assert distance_to_mean(product(topology, topology.period)) == pytest.approx(kept, abs=1e-12)


def test_residual_of_12_workers() -> None:
    topology, advice = advice_on("one_peer_exponential", 12)
    assert distance_to_mean(product(topology, 4)) == pytest.approx(0.2091290759, abs=1e-10)
    assert "12 is no power of two: a period of 4 steps leaves a residual of 0.209 " in advice.warnings[0]
    better = advice.better
    assert better is not None
    assert (better.name, better.options, better.exact_in, better.messages_per_step) == ("base_k", {}, 5, 0.8)


@pytest.mark.parametrize(
    ("name", "n", "options", "words", "better"),
    [
        ("one_peer_exponential", 16, {"peers": 2}, "16 is no power of 3", ("one_peer_exponential", {})),
        ("alternating_exponential", 12, {}, "12 is no power of two", ("base_k", {})),
        ("bipartite_linear", 12, {}, "12 is no power of two", ("base_k", {})),
        ("ring", 64, {}, "spectral gap is small, 0.0032 a step: 2865 steps", ("one_peer_exponential", {})),
        ("ring", 16, {}, "spectral gap is small, 0.051 a step: 177 steps", ("one_peer_exponential", {})),
        ("star", 16, {}, "spectral gap is small", ("one_peer_exponential", {})),
        ("torus", 13, {}, "13 is prime: the torus is 1 x 13, which is the ring", ("base_k", {"peers": 2})),
        ("random_matching", 13, {}, "13 is odd: one worker has no partner", ("base_k", {})),
    ],
)
def test_weaknesses(name: str, n: int, options: dict[str, object], words: str, better: tuple[str, Any]) -> None:
    _, advice = advice_on(name, n, **options)
    assert any(words in warning for warning in advice.warnings)
    assert advice.better is not None
    assert (advice.better.name, advice.better.options) == better


@pytest.mark.parametrize(
    ("name", "n"),
    [("one_peer_exponential", 16), ("base_k", 12), ("complete", 12), ("exponential", 12), ("torus", 16), ("ring", 2)],
)
def test_no_weakness(name: str, n: int) -> None:
    assert advice_on(name, n)[1] == Advice((), None)


@pytest.mark.parametrize("name", sorted(set(TOPOLOGIES.names()) - {"custom", "schedule", "hypercube"}))
def test_what_is_better_takes_fewer_steps_and_no_more_messages(name: str) -> None:
    for n in (1, 3, 11, 12, 16):
        topology, advice = advice_on(name, n)
        if advice.better is None:
            continue
        other = build_topology(advice.better.name, n, **advice.better.options)
        faster = steps_to(other, PRECISION)
        own = steps_to(topology, PRECISION)
        assert faster is not None
        assert own is None or faster < own
        assert advice.better.messages_per_step <= max(1, analyse(topology).messages_per_step)
