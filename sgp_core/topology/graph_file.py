"""Reading a graph from a file or a networkx object into a mixing matrix."""

from __future__ import annotations

import json
import math
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgp_core.errors import ConfigurationError

if TYPE_CHECKING:
    import networkx as nx

ENDINGS = (".graphml", ".json", ".edgelist", ".txt")
_LONGEST = 60
"""Characters of a user's value in a message."""
_FLAGS = {"directed": "whether edges go one way", "multigraph": "whether edges may be parallel"}
"""Keys of a JSON graph that networkx passes over if they are misspelt."""


def read_graph(path: str, directed: bool | None) -> nx.Graph:
    """Return the graph in ``path``: GraphML, JSON (networkx node-link) or a list of edges, by its ending.

    A list of edges has one ``sender receiver [weight]`` a line, ``#`` starts a comment; it is directed unless
    ``directed`` is False. GraphML and JSON say themselves whether they are; ``directed`` overrules.

    Raises:
        ConfigurationError: no such file, another ending, or not the format its ending says.
    """
    import networkx as nx

    file = Path(path)
    if file.suffix not in ENDINGS:
        raise ConfigurationError(f"graph file '{path}' must end in {', '.join(ENDINGS)}")
    if not file.is_file():
        raise ConfigurationError(f"graph file '{path}' does not exist")
    try:
        if file.suffix == ".graphml":
            graph = nx.read_graphml(file)
        elif file.suffix == ".json":
            graph = _node_link(json.loads(file.read_text(encoding="utf-8")))
        else:
            graph = _edge_list(file.read_text(encoding="utf-8"), directed=directed is not False)
    except ConfigurationError as error:
        raise ConfigurationError(f"graph file '{path}': {error}") from None
    except Exception as error:  # parsers raise anything from KeyError to ParseError
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigurationError(f"graph file '{path}' cannot be read as {file.suffix[1:]}: {reason}") from None
    if graph.is_multigraph():
        raise ConfigurationError(f"graph file '{path}' has parallel edges; give each pair of workers one edge")
    if directed is not None and directed != graph.is_directed():
        return graph.to_directed() if directed else graph.to_undirected()
    return graph


def adjacency(graph: nx.Graph, world_size: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(edges, weights)`` of ``graph``, both ``[n, n]`` indexed ``[receiver, sender]``.

    ``edges`` is boolean, the diagonal where the graph has self loops; ``weights`` is NaN where none is given.

    Raises:
        ConfigurationError: the nodes are not the whole numbers 0..n-1, or a weight is not a number.
    """
    rank = {node: _rank(node, where) for node in graph.nodes}
    for node, number in rank.items():
        if not 0 <= number < world_size:
            raise ConfigurationError(f"{where}: node {node} is outside 0..{world_size - 1} of {world_size} workers")
    if len(set(rank.values())) < len(rank):
        raise ConfigurationError(f"{where}: two nodes stand for the same worker; number them 0..{world_size - 1}")
    missing = sorted(set(range(world_size)) - set(rank.values()))
    if missing and world_size > 1:
        raise ConfigurationError(f"{where}: node {missing[0]} of 0..{world_size - 1} has no edge in the graph")
    edges = np.zeros((world_size, world_size), dtype=bool)
    weights = np.full((world_size, world_size), np.nan)
    for sender, receiver, data in graph.edges(data=True):
        pairs = [(rank[sender], rank[receiver])]
        if not graph.is_directed():
            pairs.append(pairs[0][::-1])
        for a, b in pairs:
            edges[b, a] = True
            if data.get("weight") is not None:
                weights[b, a] = _weight(data["weight"], a, b, where)
    return edges, weights


def _rank(node: Any, where: str) -> int:
    try:
        if isinstance(node, float) and not node.is_integer():
            raise ValueError
        return int(node)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"{where}: node {_brief(node)} is not a whole number; name the workers 0, 1, 2, ..."
        ) from None


def _weight(value: Any, sender: int, receiver: int, where: str) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError, OverflowError):
        weight = math.nan
    if math.isnan(weight):
        raise ConfigurationError(f"{where}: edge {sender} -> {receiver} has the weight {_brief(value)}, not a number")
    return weight


def _brief(value: Any) -> str:
    """Return a value as Python writes it, cut to what fits into a sentence."""
    text = repr(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _node_link(data: Any) -> nx.Graph:
    """Return the graph; a key, a node or an edge that networkx would pass over or merge is refused."""
    import networkx as nx

    edges = "edges" if isinstance(data, dict) and "edges" in data else "links"
    if not isinstance(data, dict) or "nodes" not in data or edges not in data:
        raise ConfigurationError("a JSON graph is an object with 'nodes' and 'edges' (networkx node-link)")
    for key in data.keys() - _FLAGS.keys():
        if meant := get_close_matches(key, _FLAGS, cutoff=0.8):
            raise ConfigurationError(f"a JSON graph has no key {_brief(key)}; did you mean '{meant[0]}'?")
    for key in _FLAGS.keys() & data.keys():
        if not isinstance(data[key], bool):
            raise ConfigurationError(f"'{key}' is {_brief(data[key])}, neither true nor false")
    graph: nx.Graph = nx.node_link_graph(data, edges=edges)
    for what, listed, read in (
        ("nodes", len(data["nodes"]), graph.number_of_nodes()),
        ("edges", len(data[edges]), graph.number_of_edges()),
    ):
        if listed != read:
            raise ConfigurationError(f"it lists {listed} {what} but means {read}: some are repeated or not listed")
    return graph


def _edge_list(text: str, *, directed: bool) -> nx.Graph:
    import networkx as nx

    graph: nx.Graph = nx.DiGraph() if directed else nx.Graph()
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].replace(",", " ").split()
        if not words:
            continue
        if len(words) not in (2, 3):
            raise ConfigurationError(f"line {number} is not 'sender receiver [weight]'")
        if graph.has_edge(words[0], words[1]):
            raise ConfigurationError(f"line {number} repeats the edge {words[0]} {words[1]}")
        graph.add_edge(words[0], words[1], **({"weight": words[2]} if len(words) == 3 else {}))
    return graph
