"""Every topology at every size: columns sum to 1, peers are consistent, promises made by flags are kept."""

from __future__ import annotations

import subprocess
import sys

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgp_core.errors import ConfigurationError
from sgp_core.topology import TOPOLOGIES, Topology, build_topology, validate
from sgp_core.topology.analysis import distance_to_mean, product
from sgp_core.topology.undirected import UndirectedTopology

ANY_SIZE = sorted(set(TOPOLOGIES.names()) - {"custom", "hypercube"})
VARIANTS: dict[str, dict[str, object]] = {
    **{name: {} for name in ANY_SIZE},
    "one_peer_exponential, 2 peers": {"peers": 2},
    "one_peer_exponential, 3 peers": {"peers": 3},
    "alternating_exponential, 2 peers": {"peers": 2},
    "directed_linear, 3 peers": {"peers": 3},
    "base_k, 3 peers": {"peers": 3},
    "equidyn, undirected": {"direction": "undirected", "seed": 3},
    "star, uniform": {"weights": "uniform"},
    "ring, metropolis": {"weights": "metropolis"},
    "torus, metropolis": {"weights": "metropolis"},
    "spanning_tree, chain": {"shape": "chain"},
    "spanning_tree, random": {"shape": "random", "weights": "uniform"},
    "erdos_renyi, uniform": {"weights": "uniform", "seed": 2},
}
PAIRED = ["alternating_ring", "bipartite_exponential", "bipartite_linear", "random_matching"]


def make(variant: str, n: int) -> Topology:
    return build_topology(variant.partition(",")[0], n, steps_per_epoch=3, **VARIANTS[variant])


def steps_of(topology: Topology) -> range:
    return range(topology.period or 8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_any_size_is_column_stochastic_with_consistent_peers(variant: str) -> None:
    for n in range(1, 34):
        topology = make(variant, n)
        for step in steps_of(topology):
            matrix = topology.mixing_matrix(step)
            assert matrix.shape == (n, n)
            assert matrix.dtype == np.float64
            assert (matrix >= 0).all()
            np.testing.assert_allclose(matrix.sum(axis=0), 1, rtol=0, atol=1e-14)
            for rank in range(n):
                out, incoming = topology.out_peers(rank, step), topology.in_peers(rank, step)
                assert len(set(out)) == len(out)
                assert rank not in out
                assert sorted(out) == [i for i in range(n) if i != rank and matrix[i, rank] > 0]
                assert sorted(incoming) == [j for j in range(n) if j != rank and matrix[rank, j] > 0]
                assert sorted(topology.out_neighbors(rank, step)) == sorted(out)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_size_passes_validation(variant: str) -> None:
    for n in (1, 2, 3, 6, 7, 16, 33):
        validate(make(variant, n))


@pytest.mark.parametrize("variant", VARIANTS)
def test_doubly_stochastic_flag_is_right(variant: str) -> None:
    for n in (1, 2, 3, 5, 6, 8, 13, 16, 21):
        topology = make(variant, n)
        rows = [topology.mixing_matrix(step).sum(axis=1) for step in range(topology.period or 64)]
        assert topology.is_doubly_stochastic == bool(np.allclose(rows, 1, rtol=0, atol=1e-12))


def test_doubly_stochastic_flag_knows_both_answers() -> None:
    assert not build_topology("star", 4, weights="uniform").is_doubly_stochastic
    assert build_topology("star", 4).is_doubly_stochastic


@pytest.mark.parametrize("variant", VARIANTS)
def test_graph_is_a_pure_function_of_the_step(variant: str) -> None:
    first, second = make(variant, 9), make(variant, 9)
    order = [5, 0, 70, 3, 5, 1000]
    for step in order:
        second.edges(step + 1)  # looking at other steps in between changes nothing
        assert first.edges(step) == second.edges(step)
        np.testing.assert_array_equal(first.mixing_matrix(step), second.mixing_matrix(step))
    if first.period:
        for step in range(first.period):
            assert first.edges(step) == first.edges(step + 3 * first.period)


@pytest.mark.parametrize("name", PAIRED)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 15, 16, 33])
def test_pairs_are_mutual(name: str, n: int) -> None:
    topology = build_topology(name, n)
    for step in steps_of(topology):
        idle = 0
        for rank in range(n):
            peers = topology.out_peers(rank, step)
            assert peers == topology.in_peers(rank, step)
            assert len(peers) <= 1
            idle += not peers
            assert all(topology.out_peers(peer, step) == (rank,) for peer in peers)
        assert idle == n % 2


@pytest.mark.parametrize("name", [name for name in ANY_SIZE if issubclass(TOPOLOGIES.get(name), UndirectedTopology)])
@pytest.mark.parametrize("weights", ["uniform", "metropolis"])
def test_undirected_graphs_are_reciprocal(name: str, weights: str) -> None:
    for n in range(1, 20):
        matrix = build_topology(name, n, weights=weights).mixing_matrix(0)
        np.testing.assert_array_equal(matrix > 0, matrix.T > 0)
        if weights == "metropolis":
            np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "n", "options", "peers_of_0"),
    [
        ("one_peer_exponential", 8, {}, [(1,), (2,), (4,)]),
        ("one_peer_exponential", 9, {"peers": 2}, [(1, 2), (3, 6)]),
        ("one_peer_exponential", 2, {"peers": 2}, [(1,)]),  # hop 2 leads home
        ("one_peer_exponential", 6, {"peers": 2}, [(1, 2), (3,)]),  # hop 6 leads home
        ("alternating_exponential", 8, {}, [(1,), (7,), (2,), (6,), (4,)]),
        ("alternating_exponential", 8, {"peers": 2}, [(1, 7), (2, 6), (1, 4), (2, 7), (4, 6)]),
        ("directed_linear", 8, {}, [(1,), (7,), (3,), (5,)]),
        ("directed_linear", 5, {}, [(1,), (4,), (3,), (2,)]),
        ("bipartite_linear", 8, {}, [(1,), (7,), (3,), (5,)]),
        ("bipartite_exponential", 16, {}, [(1,), (15,), (3,), (13,), (5,), (11,), (9,), (7,)]),
        ("alternating_ring", 6, {}, [(1,), (5,)]),
        ("exponential", 12, {}, [(1, 2, 4, 8)]),
        ("hypercube", 8, {}, [(1, 2, 4)]),
        ("ring", 5, {}, [(1, 4)]),
        ("torus", 12, {}, [(1, 3, 4, 8)]),
        ("torus", 12, {"rows": 2}, [(1, 5, 6)]),
        ("torus", 7, {}, [(1, 6)]),
        ("spanning_tree", 7, {}, [(1, 2)]),
        ("star", 4, {}, [(1, 2, 3)]),
    ],
)
def test_peers_are_those_of_the_definition(
    name: str, n: int, options: dict[str, object], peers_of_0: list[tuple[int, ...]]
) -> None:
    topology = build_topology(name, n, **options)
    assert topology.period == len(peers_of_0)
    assert [tuple(sorted(topology.out_peers(0, step))) for step in range(len(peers_of_0))] == peers_of_0


def test_phone_book_walks_on_when_peers_do_not_divide_it() -> None:
    """The book of 8 workers has 5 entries; two peers a step use them all in turn: period 5, not 2."""
    topology = build_topology("alternating_exponential", 8, peers=2)
    walked = [hop for step in range(5) for hop in topology.out_neighbors(0, step)]
    assert walked == [1, 7, 2, 6, 4] * 2


def test_hypercube_at_powers_of_two_only() -> None:
    for n in (1, 2, 4, 64):
        validate(build_topology("hypercube", n))
    with pytest.raises(ConfigurationError, match="power of two, not 12 workers; nearest: 8 or 16"):
        build_topology("hypercube", 12)


@pytest.mark.parametrize("n", [2**k for k in range(8)])
def test_one_peer_exponential_is_exact_at_powers_of_two(n: int) -> None:
    topology = build_topology("one_peer_exponential", n)
    assert topology.period == max(n.bit_length() - 1, 1)
    for start in range(topology.period):  # its matrices commute: exact from any start
        assert distance_to_mean(product(topology, topology.period, start)) < 1e-12


@pytest.mark.parametrize(
    ("n", "peers"), [(3, 2), (9, 2), (27, 2), (81, 2), (243, 2), (4, 3), (16, 3), (64, 3), (25, 4)]
)
def test_k_peer_exponential_is_exact_at_powers_of_k_plus_1(n: int, peers: int) -> None:
    topology = build_topology("one_peer_exponential", n, peers=peers)
    assert (peers + 1) ** topology.period == n
    assert distance_to_mean(product(topology, topology.period)) < 1e-12


def test_number_of_powers_is_counted_in_integers() -> None:
    """log_3(243) is 4.999... in floating point: 244 workers would miss the hops of 243."""
    topology = build_topology("one_peer_exponential", 244, peers=2)
    assert topology.period == 6
    assert topology.out_peers(0, 5) == (242, 243)  # 243 and 486 mod 244


@pytest.mark.parametrize("n", [4, 8, 16, 32])
def test_alternating_exponential_needs_nearly_twice_the_steps(n: int) -> None:
    topology = build_topology("alternating_exponential", n)
    steps = 2 * (n.bit_length() - 1) - 1
    assert distance_to_mean(product(topology, steps)) < 1e-12
    assert distance_to_mean(product(topology, steps - 1)) > 0.1


BASE_K_LENGTHS = {
    **{3: (3, 1, 1, 1), 4: (2, 2, 1, 1), 5: (5, 3, 3, 1), 6: (4, 2, 2, 2), 7: (5, 4, 3, 3), 8: (3, 3, 2, 2)},
    **{9: (7, 2, 2, 2), 10: (6, 4, 4, 2), 12: (5, 3, 2, 2), 15: (7, 4, 4, 2), 16: (4, 4, 2, 2), 17: (9, 5, 5, 4)},
}


def test_base_k_schedules_are_as_short_as_the_authors() -> None:
    for n, lengths in BASE_K_LENGTHS.items():
        assert tuple(build_topology("base_k", n, peers=k).period for k in (1, 2, 3, 4)) == lengths
    assert {n: build_topology("base_k", n).period for n in (25, 33, 64, 100)} == {25: 9, 33: 11, 64: 6, 100: 11}


@pytest.mark.parametrize("peers", [1, 2, 3, 4])
def test_base_k_is_exact_at_every_size(peers: int) -> None:
    for n in range(1, 65):
        topology = build_topology("base_k", n, peers=peers)
        assert topology.period <= max(1, 2 * np.log(n) / np.log(peers + 1) + 2 + 1e-9)
        assert np.abs(product(topology, topology.period) - 1 / n).max() < 1e-12
        for step in range(topology.period):
            matrix = topology.mixing_matrix(step)
            np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-15)
            assert max(len(topology.out_peers(rank, step)) for rank in range(n)) <= peers


def test_base_k_takes_any_number_of_peers() -> None:
    topology = build_topology("base_k", 7, peers=20)
    assert topology.period == 1
    np.testing.assert_allclose(topology.mixing_matrix(0), 1 / 7)


def test_random_topologies_follow_their_seed() -> None:
    for name in ("random_matching", "equidyn", "erdos_renyi"):
        one, same, other = (build_topology(name, 12, seed=seed) for seed in (1, 1, 2))
        assert [one.edges(s) for s in range(6)] == [same.edges(s) for s in range(6)]
        assert [one.edges(s) for s in range(6)] != [other.edges(s) for s in range(6)]


def test_random_matching_meets_everybody() -> None:
    topology = build_topology("random_matching", 7)
    met = {topology.out_peers(0, step) for step in range(100)}
    assert met == {(), *((peer,) for peer in range(1, 7))}


def test_equidyn_weights_are_the_papers() -> None:
    """eta = 1/2: half of the model is mixed, (n-1)/n of that half goes to the peer."""
    for direction in ("directed", "undirected"):
        matrix = build_topology("equidyn", 8, direction=direction).mixing_matrix(0)
        assert set(np.round(matrix.ravel(), 12)) == {0.0, 0.5 * 7 / 8, 1 - 0.5 * 7 / 8}


def test_torus_side_of_two_carries_both_directions() -> None:
    matrix = build_topology("torus", 8).mixing_matrix(0)  # 2 x 4: up and down are the same worker
    assert matrix[4, 0] == pytest.approx(2 / 5)
    assert matrix[1, 0] == matrix[3, 0] == matrix[0, 0] == pytest.approx(1 / 5)
    even = build_topology("torus", 8, weights="metropolis").mixing_matrix(0)
    assert {*np.round(even[even > 0], 12)} == {0.25}


def test_erdos_renyi_is_connected_and_refuses_when_it_cannot_be() -> None:
    for seed in range(20):
        validate(build_topology("erdos_renyi", 10, p=0.25, seed=seed))
    with pytest.raises(
        ConfigurationError, match=r"no connected graph with p=0\.01 over 30 workers; the usual p is 0\.2"
    ):
        build_topology("erdos_renyi", 30, p=0.01)


@settings(max_examples=60, deadline=None)
@given(
    variant=st.sampled_from(sorted(VARIANTS)),
    n=st.integers(1, 33),
    start=st.integers(0, 10**6),
    seed=st.integers(0, 99),
)
def test_gossip_conserves_mass(variant: str, n: int, start: int, seed: int) -> None:
    topology = make(variant, n)
    draws = np.random.default_rng(seed)
    x, w = draws.normal(size=(n, 3)), np.ones(n)
    total = x.sum(axis=0)
    for step in range(start, start + 10):
        matrix = topology.mixing_matrix(step)
        x, w = matrix @ x, matrix @ w
    np.testing.assert_allclose(x.sum(axis=0), total, rtol=0, atol=1e-12)
    assert w.sum() == pytest.approx(n, abs=1e-12)
    assert (w > 0).all()


@pytest.mark.parametrize(
    ("name", "n", "options", "message"),
    [
        ("rign", 4, {}, "unknown topology 'rign'; did you mean 'ring'"),
        ("ring", 4, {"peers": 2}, "topology 'ring' has no option 'peers'"),
        ("ring", 0, {}, "topology 'ring': world_size must be a whole number of at least 1, not 0"),
        ("ring", 2.5, {}, "world_size must be a whole number"),
        ("ring", 4, {"weights": "metropolys"}, "has no weights 'metropolys'; did you mean 'metropolis'"),
        ("torus", 8, {"rows": 3}, "needs rows to divide 8 workers: 1, 2, 4, 8, not 3"),
        ("one_peer_exponential", 4, {"peers": 0}, "needs peers to be a whole number of at least 1, not 0"),
        ("base_k", 4, {"peers": 1.5}, "needs peers to be a whole number of at least 1, not 1.5"),
        ("equidyn", 4, {"eta": 0.0}, r"needs eta to lie in \(0, 1\], not 0"),
        ("erdos_renyi", 4, {"p": 1.5}, r"needs p to lie in \(0, 1\], not 1.5"),
        ("random_matching", 4, {"seed": -1}, "needs seed to be a whole number of at least 0, not -1"),
        ("spanning_tree", 4, {"shape": "bushy"}, "has no shape 'bushy'; known: binary, chain, random"),
        ("custom", 4, {}, "needs topology.path="),
    ],
)
def test_mistakes_are_named(name: str, n: int, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        build_topology(name, n, **options)
    assert "\n" not in str(caught.value)


def test_build_accepts_a_class_an_instance_and_a_networkx_graph() -> None:
    ring = build_topology(TOPOLOGIES.get("ring"), 4)
    assert build_topology(ring) is ring
    assert build_topology(ring, world_size=4) is ring
    with pytest.raises(ConfigurationError, match="over 4 workers, not 5"):
        build_topology(ring, world_size=5)
    with pytest.raises(ConfigurationError, match="needs a world_size"):
        build_topology("ring")
    drawn = build_topology(nx.cycle_graph(4), world_size=4)
    np.testing.assert_allclose(drawn.mixing_matrix(0), ring.mixing_matrix(0))
    assert build_topology(nx.DiGraph([(0, 1), (1, 0)])).world_size == 2


def test_topologies_import_without_torch_and_without_networkx() -> None:
    program = (
        "import sys; from sgp_core.topology import TOPOLOGIES, build_topology; from sgp_core.topology import analysis;"
        "print(analysis.analyse(build_topology('ring', 4)).name, 'custom' in TOPOLOGIES.names(),"
        "sorted({'torch', 'networkx', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "ring True []"
