"""Regions with a thin link: doubly stochastic, connected over a period, closed forms, and few messages across."""

from __future__ import annotations

from math import gcd, lcm

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgp_core.errors import ConfigurationError
from sgp_core.topology import build_topology, validate
from sgp_core.topology.advice import advise
from sgp_core.topology.analysis import analyse, distance_to_mean, exact_in, product, steps_to
from sgp_core.topology.regions import Regions, messages_across


@st.composite
def cases(draw: st.DrawFn) -> Regions:
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    least = 1 if max(sizes) == 1 else 2
    return Regions(
        sum(sizes),
        sizes=sizes,
        cross_every=draw(st.none() | st.integers(least, 7)),
        cross_peers=draw(st.integers(1, min(sizes))),
        cross_weight=draw(st.floats(0.05, 0.95)),
        peers=draw(st.integers(1, 3)),
    )


@given(topology=cases())
@settings(max_examples=60, deadline=None)
def test_any_regions_mix(topology: Regions) -> None:
    n, union = topology.world_size, nx.DiGraph()
    union.add_nodes_from(range(n))
    region = np.repeat(np.arange(len(topology.region_sizes)), topology.region_sizes)
    for step in range(topology.period):
        matrix = topology.mixing_matrix(step)
        np.testing.assert_allclose(matrix.sum(axis=0), 1, rtol=0, atol=1e-14)
        np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-15)
        assert (matrix >= 0).all()
        assert (np.diag(matrix) > 0).all()  # what is pushed with a delay must leave some weight
        np.testing.assert_array_equal(matrix, topology.mixing_matrix(step + topology.period))
        union.add_edges_from(np.argwhere(matrix).tolist())
        across = np.count_nonzero(matrix[region[:, None] != region])
        assert across <= 2 * topology.cross_peers * (len(topology.region_sizes) // 2)
    assert nx.is_strongly_connected(union)
    validate(topology)


@pytest.mark.parametrize("size", [2, 4, 8])
@pytest.mark.parametrize("pairs", [1, 2])
@pytest.mark.parametrize("weight", [0.25, 0.5, 0.9])
def test_second_singular_value_of_a_period(size: int, pairs: int, weight: float) -> None:
    """Of Q crossings each but the last takes the difference of the means times 1 - 2 w c / s.

    After the last there is no averaging inside yet: c of s workers of a region are 1 - 2 w apart, the others 1.
    """
    topology = build_topology("regions", 2 * size, cross_peers=pairs, cross_weight=weight)
    w = min(weight, size / (2 * pairs))
    kept = 1 - 2 * w * pairs / size
    crossings = min(size // gcd(size, pairs), 4)
    assert topology.period == crossings * (size.bit_length() - 1 + 1)
    expected = abs(kept) ** (crossings - 1) * np.sqrt((size - pairs + pairs * (1 - 2 * w) ** 2) / size)
    period = product(topology, topology.period)
    assert np.linalg.svd(period, compute_uv=False)[1] == pytest.approx(expected, abs=1e-12)
    assert distance_to_mean(period) == pytest.approx(expected, abs=1e-12)
    moduli = np.sort(np.abs(np.linalg.eigvals(period)))
    assert moduli[-2] == pytest.approx(abs(kept) ** crossings, abs=1e-12)


@pytest.mark.parametrize("sizes", [[4, 4], [3, 3], [2, 2, 2, 2], [3, 5], [5, 5, 5]])
def test_enough_pairs_are_exact(sizes: list[int]) -> None:
    """All of a region cross: the schedule of base_k over regions of one size; of two regions, of any sizes."""
    pairs = min(sizes)
    topology = build_topology("regions", sum(sizes), sizes=sizes, cross_peers=pairs, cross_weight=0.95)
    assert exact_in(topology) is not None


def test_more_messages_across_mix_faster() -> None:
    one, two, four = (build_topology("regions", 8, cross_peers=pairs) for pairs in (1, 2, 4))
    assert [messages_across(each, (4, 4)) for each in (one, two, four)] == pytest.approx([2 / 3, 4 / 3, 8 / 3])
    assert [steps_to(each, 1e-4) for each in (one, two, four)] == [99, 42, 3]
    assert messages_across(build_topology("one_peer_exponential", 8), (4, 4)) == pytest.approx(14 / 3)
    assert advise(one, analyse(one)).better is None  # what is faster sends more across
    assert analyse(one).messages_across == pytest.approx(2 / 3)
    assert analyse(build_topology("ring", 8)).messages_across is None


def test_regions_of_a_count_are_those_of_the_network_model() -> None:
    assert build_topology("regions", 7).region_sizes == (3, 4)
    assert build_topology("regions", 10, regions=4).region_sizes == (2, 3, 2, 3)
    assert build_topology("regions", 1).region_sizes == (1,)
    assert lcm(*(build_topology("regions", 8, regions=r).period for r in (1, 2, 4, 8))) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": [4, 5]}, r"sizes of at least 1 that sum to 8 workers, not 4 \+ 5"),
        ({"cross_peers": 5}, "cross_peers of at most 4, the workers of the smallest region, not 5"),
        ({"cross_weight": 1.0}, "cross_weight to lie between 0 and 1, not 1.0"),
        ({"cross_every": 1}, "cross_every to be a whole number of at least 2, not 1"),
        ({"regions": 0}, "regions to be a whole number of at least 1, not 0"),
    ],
)
def test_mistakes(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build_topology("regions", 8, **options)
