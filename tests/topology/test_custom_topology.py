"""Graphs from files and networkx: read as written, refused with the node or column at fault."""

from __future__ import annotations

import json
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from sgp_core.errors import ConfigurationError
from sgp_core.topology import Topology, build_topology, validate

WEIGHTED = nx.DiGraph()
WEIGHTED.add_weighted_edges_from([(0, 1, 0.25), (0, 2, 0.25), (1, 2, 0.5), (2, 0, 0.125)])
WEIGHTED_MATRIX = np.array([[0.5, 0, 0.125], [0.25, 0.5, 0], [0.25, 0.5, 0.875]])


def write(graph: nx.Graph, path: Path) -> None:
    if path.suffix == ".graphml":
        nx.write_graphml(graph, path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(nx.node_link_data(graph, edges="edges")))
    elif nx.get_edge_attributes(graph, "weight"):
        nx.write_weighted_edgelist(graph, path)
    else:
        nx.write_edgelist(graph, path, data=False)


@pytest.mark.parametrize("ending", [".graphml", ".json", ".edgelist", ".txt"])
def test_weighted_digraph_survives_the_round_trip(ending: str, tmp_path: Path) -> None:
    write(WEIGHTED, tmp_path / f"graph{ending}")
    topology = build_topology("custom", 3, path=str(tmp_path / f"graph{ending}"))
    np.testing.assert_allclose(topology.mixing_matrix(0), WEIGHTED_MATRIX, rtol=0, atol=1e-15)
    assert topology.period == 1
    assert not topology.is_doubly_stochastic


@pytest.mark.parametrize("ending", [".graphml", ".json"])
def test_undirected_file_sends_both_ways(ending: str, tmp_path: Path) -> None:
    write(nx.cycle_graph(5), tmp_path / f"graph{ending}")
    topology = build_topology("custom", 5, path=str(tmp_path / f"graph{ending}"))
    np.testing.assert_allclose(topology.mixing_matrix(0), build_topology("ring", 5).mixing_matrix(0))


def test_edge_list_is_directed_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "cycle.txt"
    path.write_text("# one way round\n0 1\n1 2\n2, 3\n3 0  # and home\n")
    one_way = build_topology("custom", 4, path=str(path))
    np.testing.assert_allclose(one_way.mixing_matrix(0), build_topology("directed_ring", 4).mixing_matrix(0))
    both = build_topology("custom", 4, path=str(path), directed=False)
    np.testing.assert_allclose(both.mixing_matrix(0), build_topology("ring", 4).mixing_matrix(0))


def test_json_with_links_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(nx.node_link_data(WEIGHTED, edges="links")))
    np.testing.assert_allclose(build_topology("custom", 3, path=str(path)).mixing_matrix(0), WEIGHTED_MATRIX)


def test_metropolis_ignores_the_weights_of_the_file() -> None:
    graph = nx.star_graph(3)
    nx.set_edge_attributes(graph, 0.1, "weight")
    star = build_topology("star", 4)
    np.testing.assert_allclose(build_topology(graph, weights="metropolis").mixing_matrix(0), star.mixing_matrix(0))
    uniform = build_topology("star", 4, weights="uniform")
    np.testing.assert_allclose(build_topology(graph, weights="uniform").mixing_matrix(0), uniform.mixing_matrix(0))
    assert build_topology(graph).mixing_matrix(0)[1, 0] == 0.1


def test_self_loop_weight_is_the_own_share() -> None:
    graph = nx.DiGraph()
    graph.add_weighted_edges_from([(0, 1, 0.75), (0, 0, 0.25), (1, 0, 0.5)])
    np.testing.assert_allclose(build_topology(graph).mixing_matrix(0), [[0.25, 0.5], [0.75, 0.5]])


def test_columns_rounded_when_typed_are_made_to_sum_to_one() -> None:
    third = 0.333333
    graph = nx.DiGraph()
    graph.add_weighted_edges_from([(i, j, third) for i in range(3) for j in range(3)])
    np.testing.assert_allclose(build_topology(graph).mixing_matrix(0), 1 / 3, rtol=0, atol=1e-15)


def weighted(*edges: tuple[object, object, object]) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_weighted_edges_from(edges)
    return graph


@pytest.mark.parametrize(
    ("graph", "n", "options", "message"),
    [
        (weighted((0, 0, 0.3), (0, 1, 0.5), (1, 0, 0.5)), 2, {}, "'custom': column 0 sums to 0.8; what worker 0 keeps"),
        (weighted((0, 1, 0.5), (1, 0, 1.2)), 2, {}, "'custom': column 1 sums to 1.2; what worker 1 keeps and sends"),
        (weighted((0, 1, -0.5), (1, 0, 0.5)), 2, {}, "'custom': edge 0 -> 1 has a negative weight, -0.5"),
        (weighted((0, 1, float("nan")), (1, 0, 0.5)), 2, {}, "edge 0 -> 1 has the weight nan, not a number"),
        (weighted((0, 1, np.nan), (1, 0, np.nan)), 2, {}, "edge 0 -> 1 has the weight nan, not a number"),
        (weighted((0, 1, float("inf")), (1, 0, 0.5)), 2, {}, "edge 0 -> 1 has a weight that is not a number"),
        (weighted((0, 1, "heavy"), (1, 0, 0.5)), 2, {}, "edge 0 -> 1 has the weight 'heavy', not a number"),
        (weighted((0, 1, 10**400), (1, 0, 0.5)), 2, {}, r"edge 0 -> 1 has the weight 10{59}\.\.\., not a number"),
        (nx.DiGraph([(0, 0), (0, 1), (1, 0)]), 2, {}, "has an edge from node 0 to itself"),
        (nx.DiGraph([("a", 1), (1, "a")]), 2, {}, "node 'a' is not a whole number"),
        (nx.DiGraph([(0.5, 1), (1, 0.5)]), 2, {}, "node 0.5 is not a whole number"),
        (nx.DiGraph([(1, 2), (2, 1)]), 2, {}, "node 2 is outside 0..1 of 2 workers"),
        (nx.cycle_graph(3), 5, {}, "node 3 of 0..4 has no edge"),
        (nx.DiGraph([(0, 1), (1, 2), (2, 1)]), 3, {}, "not connected: nothing of worker 1 ever reaches worker 0"),
        (weighted((0, 1, 1.0), (1, 0, 1.0)), 2, {}, "never mixes them: let worker 0 keep a share"),
        (nx.DiGraph([(0, 1), (1, 2), (2, 0)]), 3, {"weights": "metropolis"}, "has the edge 0 -> 1 but not back"),
        (nx.cycle_graph(3), 3, {"weights": "edges"}, "has no weight on edge 0 -> 1; give every edge one, or none"),
        (nx.cycle_graph(3), 3, {"weights": "edge"}, "has no weights 'edge'; did you mean 'edges'"),
    ],
)
def test_faults_are_named(graph: nx.Graph, n: int, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        build_topology(graph, world_size=n, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("graph.yaml", "", "must end in .graphml, .json, .edgelist, .txt"),
        ("absent.json", None, "absent.json' does not exist"),
        ("graph.json", "{", "cannot be read as json"),
        ("graph.json", "[]", "a JSON graph is an object with 'nodes' and 'edges'"),
        ("graph.json", '{"nodes": [], "edges": [], "direcued": true}', "no key 'direcued'; did you mean 'directed'"),
        ("graph.json", '{"nodes": [], "edges": [], "directed": 0.5}', "'directed' is 0.5, neither true nor false"),
        ("graph.json", '{"nodes": [{"id": 0}, {"id": 0}], "edges": []}', "lists 2 nodes but means 1"),
        ("graph.graphml", "<x", "cannot be read as graphml"),
        ("graph.txt", "0 1\n1\n", "line 2 is not 'sender receiver"),
        ("graph.txt", "0 1\n1 0\n0 1\n", "line 3 repeats the edge 0 1"),
    ],
)
def test_unreadable_files_are_refused(name: str, content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigurationError, match=message) as caught:
        build_topology("custom", 2, path=str(tmp_path / name))
    assert "\n" not in str(caught.value)


class Faulty(Topology):
    """Worker 1 of 3 names the peers it is told to."""

    peers: tuple[int, ...] = ()

    def out_neighbors(self, rank: int, step: int) -> list[int]:
        return list(self.peers) if rank == 1 else [(rank + 1) % self.world_size]


@pytest.mark.parametrize(
    ("peers", "message"),
    [
        ((1,), "topology 'Faulty': worker 1 lists itself as a peer"),
        ((2, 2), "worker 1 lists worker 2 twice"),
        ((7,), "worker 1 sends to worker 7, which does not exist"),
        ((), "nothing of worker 0 ever reaches worker 2"),
    ],
)
def test_validate_names_the_fault_of_a_users_own_class(
    peers: tuple[int, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Faulty, "peers", peers)
    with pytest.raises(ConfigurationError, match=message):
        validate(Faulty(3))
