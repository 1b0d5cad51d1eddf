"""The spectrum of a graph and what rounds leave of it: closed forms, and norms of the matrices themselves."""

from __future__ import annotations

from math import cos, pi

import numpy as np
import pytest

from sgp_core.topology import build_topology
from sgp_core.topology.analysis import distance_to_mean, product
from sgp_core.topology.chebyshev import worst_gain
from sgp_core.topology.spectrum import left_after, spectrum


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_rings_are_waves(n: int) -> None:
    """(1 + 2 cos(2 pi m / n)) / 3 of the ring; (1 + exp(2 pi i m / n)) / 2 of the one-way ring."""
    ring, one_way = (spectrum(build_topology(name, n)) for name in ("ring", "directed_ring"))
    assert ring is not None
    assert one_way is not None
    if n > 2:
        expected = sorted((1 + 2 * cos(2 * pi * m / n)) / 3 for m in range(n))
        np.testing.assert_allclose(np.sort(ring.eigenvalues.real), expected, rtol=0, atol=1e-12)
        waves = (1 + np.exp(2j * pi * np.arange(n) / n)) / 2
        assert max(np.abs(one_way.eigenvalues - wave).min() for wave in waves) < 1e-12
    for found in (ring, one_way):
        assert found.eigenvalues[0] == pytest.approx(1)
        assert (np.diff(np.abs(found.eigenvalues)) <= 1e-9).all()
        assert sum(count for _, count in found.distinct()) == n


def test_what_is_left_of_symmetric_graphs_is_the_norm() -> None:
    topology = build_topology("torus", 12)
    found = spectrum(topology)
    assert found is not None
    assert found.rho == pytest.approx(0.6)
    left = left_after(topology, (1, 2, 5, 9))
    np.testing.assert_allclose(left, [found.response(k)[1:].max() for k in (1, 2, 5, 9)], rtol=1e-12)
    for k in (1, 2, 5, 9):
        assert found.accelerated(k)[1:].max() == pytest.approx(worst_gain(0.6, k))


def test_what_is_left_of_changing_graphs() -> None:
    topology = build_topology("one_peer_exponential", 12)
    found = spectrum(topology)
    assert found is not None
    assert (found.period, found.rho, found.accelerated(3)) == (4, None, None)
    assert found.response(1)[1] == pytest.approx(0.2091290759)
    left = left_after(topology, (1, 4, 8))
    assert left == pytest.approx([distance_to_mean(product(topology, k)) for k in (1, 4, 8)])
    assert left[1:] == pytest.approx([0.2091290759, 0.2091290759**2])
    exact = spectrum(build_topology("base_k", 12))
    assert exact is not None
    assert exact.distinct() == [(pytest.approx(1), 1), (0, 11)]
    assert spectrum(build_topology("random_matching", 8)) is None
