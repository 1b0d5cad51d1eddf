"""A damaged graph file is refused in one sentence, or is a graph that gossip can use, and never a silent wrong one."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from sgp_core.topology import build_topology
from tests.fuzz.mutate import cases, mutate
from tests.fuzz.refusals import result_of

WORKERS = 6


def graphs(folder: Path) -> list[Path]:
    """Write one graph, with weights and without, in every format."""
    plain = nx.DiGraph([(i, (i + hop) % WORKERS) for i in range(WORKERS) for hop in (1, 2)])
    weighted = nx.DiGraph()
    weighted.add_weighted_edges_from((i, (i + hop) % WORKERS, 0.25 * hop) for i in range(WORKERS) for hop in (1, 2))
    weighted.add_weighted_edges_from((i, i, 0.25) for i in range(WORKERS))
    for name, graph in (("plain", plain), ("weighted", weighted)):
        nx.write_graphml(graph, folder / f"{name}.graphml")
        (folder / f"{name}.json").write_text(json.dumps(nx.node_link_data(graph, edges="edges")))
    nx.write_edgelist(plain, folder / "plain.txt", data=False)
    nx.write_weighted_edgelist(weighted, folder / "weighted.edgelist")
    return sorted(folder.iterdir())


@pytest.mark.filterwarnings("error")
def test_damaged_graphs(tmp_path: Path) -> None:
    files = graphs(tmp_path)
    counts: Counter[str] = Counter()
    for seed in cases(120):
        whole = files[seed % len(files)]
        damaged = tmp_path / f"damaged{whole.suffix}"
        damaged.write_bytes(mutate(whole.read_bytes(), seed))
        whole_graph = build_topology("custom", WORKERS, path=str(whole))
        before = whole_graph.mixing_matrix(0)
        graph = result_of(partial(build_topology, "custom", WORKERS, path=str(damaged)), seed)
        if graph is None:
            counts["refused"] += 1
            continue
        matrix = graph.mixing_matrix(0)
        assert np.isfinite(matrix).all(), seed
        np.testing.assert_allclose(matrix.sum(axis=0), 1, atol=1e-9, err_msg=f"seed {seed}")
        same = np.array_equal(matrix, before)
        assert (graph.content() == whole_graph.content()) == same, (seed, "a resumed run would not notice")
        counts["the same" if same else "another graph"] += 1
    print(dict(counts))
    assert counts["refused"] > 0
