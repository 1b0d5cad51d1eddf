"""Draw the pictures of docs/topologies.md and compute its tables: ``python docs/make_topologies.py``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgp_core.topology import TOPOLOGIES, Topology, build_topology
from sgp_core.topology.analysis import Analysis, analyse
from sgp_core.topology.regions import messages_across

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE = Path(__file__).with_name("topologies.md")
IMAGES = Path(__file__).parent / "images" / "topologies"
BEGIN, END = "<!-- table: {what}, written by make_topologies.py -->", "<!-- end of table -->"

ROWS: list[tuple[str, dict[str, Any]]] = [
    ("complete", {}),
    ("one_peer_exponential", {}),
    ("one_peer_exponential", {"peers": 2}),
    ("one_peer_exponential", {"peers": 3}),
    ("base_k", {}),
    ("base_k", {"peers": 2}),
    ("base_k", {"peers": 3}),
    ("alternating_exponential", {}),
    ("bipartite_exponential", {}),
    ("bipartite_linear", {}),
    ("directed_linear", {}),
    ("random_matching", {}),
    ("equidyn", {}),
    ("equidyn", {"direction": "undirected"}),
    ("exponential", {}),
    ("hypercube", {}),
    ("torus", {}),
    ("erdos_renyi", {}),
    ("ring", {}),
    ("alternating_ring", {}),
    ("directed_ring", {}),
    ("star", {}),
    ("spanning_tree", {}),
    ("spanning_tree", {"shape": "chain"}),
    ("regions", {}),
    ("regions", {"cross_peers": 2}),
]
"""Rows of the tables: fast graphs first, then static ones, then sparse ones."""

HEADER = (
    "| topology | messages a step | period | gap | sigma_2 | contraction of a period | steps to 1e-2 | 1e-4 | 1e-8 "
    "| exact in | n_eff(0.9) | n_eff(0.99) | mean resistance |"
)

PANELS: dict[str, tuple[int, dict[str, Any], tuple[int, ...]]] = {
    "complete": (8, {}, (0,)),
    "ring": (8, {}, (0,)),
    "directed_ring": (8, {}, (0,)),
    "star": (8, {}, (0,)),
    "torus": (12, {}, (0,)),
    "hypercube": (8, {}, (0,)),
    "exponential": (8, {}, (0,)),
    "one_peer_exponential": (8, {}, (0, 1, 2)),
    "alternating_exponential": (8, {}, (0, 1, 2, 3, 4)),
    "directed_linear": (8, {}, (0, 1, 2, 3)),
    "bipartite_exponential": (8, {}, (0, 1, 2, 3)),
    "bipartite_linear": (8, {}, (0, 1, 2, 3)),
    "alternating_ring": (8, {}, (0, 1)),
    "random_matching": (8, {}, (0, 1, 2)),
    "base_k": (6, {}, (0, 1, 2, 3)),
    "equidyn": (8, {}, (0, 1, 2)),
    "spanning_tree": (7, {}, (0,)),
    "erdos_renyi": (10, {}, (0,)),
    "regions": (8, {"cross_peers": 2}, (0, 1, 2, 5)),
    "custom": (3, {}, (0,)),
    "schedule": (9, {"steps_per_epoch": 2}, (0, 1, 60, 61)),
}
"""For each picture: number of workers, options, and the steps it shows."""


def table(n: int) -> str:
    """Return the Markdown table of the analysis over ``n`` workers."""
    lines = [HEADER, "|---|" + "---:|" * (HEADER.count("|") - 2)]
    for name, options in ROWS:
        if name == "hypercube" and n & (n - 1):
            continue
        lines.append(_row(name, options, analyse(build_topology(name, n, **options))))
    return "\n".join(lines)


def base_k_table() -> str:
    """Return the Markdown table of the steps that ``base_k`` takes to the exact mean."""
    sizes = (3, 5, 6, 7, 8, 9, 10, 12, 15, 16, 25, 33, 64, 100)
    lines = ["| n | " + " | ".join(map(str, sizes)) + " |", "|---|" + "---:|" * len(sizes)]
    for peers in (1, 2, 3, 4):
        steps = [str(build_topology("base_k", n, peers=peers).period) for n in sizes]
        lines.append(f"| steps, `peers={peers}` | " + " | ".join(steps) + " |")
    return "\n".join(lines)


def regions_table() -> str:
    """Return the Markdown table of two regions of four workers: what goes across, and how fast it mixes."""
    lines = [
        "| topology | across a step | gap | steps to 1e-4 | messages across until then |",
        "|---|---:|---:|---:|---:|",
    ]
    rows: list[tuple[str, dict[str, Any]]] = [
        ("regions", {}),
        ("regions", {"cross_weight": 0.9}),
        ("regions", {"cross_peers": 2}),
        ("regions", {"cross_peers": 4}),
        ("ring", {}),
        ("one_peer_exponential", {}),
        ("base_k", {}),
        ("exponential", {}),
    ]
    for name, options in rows:
        topology = build_topology(name, 8, **options)
        across, found = messages_across(topology, (4, 4)), analyse(topology)
        steps = found.steps_to[1e-4]
        assert steps is not None
        region = np.arange(8) // 4
        crossing = region[:, None] != region
        until = sum(np.count_nonzero((topology.mixing_matrix(step) != 0) & crossing) for step in range(steps))
        label = f"`{name}`" + "".join(f" {option}={value}" for option, value in options.items())
        lines.append(f"| {label} | {across:.2f} | {_rounded(found.spectral_gap, 3)} | {steps} | {until} |")
    return "\n".join(lines)


def page_with_tables(text: str) -> str:
    """Return ``text`` with everything between the markers replaced by fresh tables."""
    for what, fresh in (
        ("n = 16", table(16)),
        ("n = 12", table(12)),
        ("base_k", base_k_table()),
        ("regions", regions_table()),
    ):
        before, _, rest = text.partition(BEGIN.format(what=what))
        _, _, after = rest.partition(END)
        text = f"{before}{BEGIN.format(what=what)}\n{fresh}\n{END}{after}"
    return text


def example_graph() -> Any:
    """Return the three workers of the page's own graph: out-edges 0 -> 1, 0 -> 2, 1 -> 2, 2 -> 0."""
    import networkx as nx

    return nx.DiGraph([(0, 1), (0, 2), (1, 2), (2, 0)])


def draw(name: str) -> None:
    """Write the picture of one topology as ``images/topologies/<name>.svg``: one panel per step."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    n, options, steps = PANELS[name]
    topology = build_topology(example_graph()) if name == "custom" else build_topology(name, n, **options)
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}
    with plt.rc_context(style):
        figure, axes = plt.subplots(1, len(steps), figsize=(2.1 * len(steps), 2.2), squeeze=False)
        for step, panel in zip(steps, axes[0], strict=True):
            _draw_step(panel, topology, step)
            if len(steps) > 1:
                panel.set_title(f"step {step}", fontsize=9, color="#555555", pad=2)
        figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.9, wspace=0.02)
        partial = IMAGES / f"{name}.svg.part"
        figure.savefig(partial, format="svg", metadata={"Date": None}, facecolor="white")
        os.replace(partial, IMAGES / f"{name}.svg")
        plt.close(figure)


def _row(name: str, options: dict[str, Any], found: Analysis) -> str:
    label = f"[`{name}`](#{name})" + "".join(f" {option}={value}" for option, value in options.items())
    resistance = "-" if found.mean_resistance is None else _rounded(found.mean_resistance, 3)
    cells = [
        label,
        _rounded(found.messages_per_step, 2).rstrip("0").rstrip("."),
        "-" if found.period is None else str(found.period),
        _rounded(found.spectral_gap, 3),
        _rounded(found.sigma_2, 3),
        "-"
        if found.period is None
        else "0"
        if found.contraction_per_period < 1e-12
        else _rounded(found.contraction_per_period, 3),
        *("never" if steps is None else str(steps) for steps in found.steps_to.values()),
        "-" if found.exact_in is None else f"**{found.exact_in}**",
        _rounded(found.effective_neighbors[0.9], 2),
        _rounded(found.effective_neighbors[0.99], 2),
        resistance,
    ]
    return "| " + " | ".join(cells) + " |"


def _rounded(value: float, places: int) -> str:
    """Return ``value`` with ``places`` decimals, independent of rounding errors that differ between machines."""
    return f"{round(value, 9):.{places}f}"


def _draw_step(panel: Axes, topology: Topology, step: int) -> None:
    import networkx as nx

    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(topology.world_size))
    for rank in range(topology.world_size):
        graph.add_edges_from((rank, peer) for peer in topology.out_peers(rank, step))
    places = _places(topology)
    both = [(a, b) for a, b in graph.edges if a < b and graph.has_edge(b, a)]
    one_way = [(a, b) for a, b in graph.edges if not graph.has_edge(b, a)]
    common: Any = {"ax": panel, "node_size": 230, "edge_color": "#7a869a", "width": 1.2}
    for edge in both:
        wraps = topology.name == "torus" and np.hypot(*np.subtract(places[edge[0]], places[edge[1]])) > 1.5
        style = "arc3,rad=0.28" if wraps else "arc3,rad=0.0"
        nx.draw_networkx_edges(graph, places, [edge], arrows=True, arrowstyle="-", connectionstyle=style, **common)
    nx.draw_networkx_edges(graph, places, one_way, arrows=True, arrowstyle="-|>", arrowsize=9, **common)
    nx.draw_networkx_nodes(graph, places, ax=panel, node_size=230, node_color="#2f5d8a", linewidths=0)
    nx.draw_networkx_labels(graph, places, ax=panel, font_size=8, font_color="white")
    panel.set_aspect("equal")
    panel.margins(0.14)
    panel.axis("off")


def _places(topology: Topology) -> dict[int, tuple[float, float]]:
    """Return the position of each worker: on a circle, clockwise from the top, unless the graph has a better shape."""
    n, name = topology.world_size, topology.name
    if name == "torus":
        return {rank: (float(rank % 4), -float(rank // 4)) for rank in range(n)}
    if name == "hypercube":
        corner = {0: (0.0, 0.0), 1: (1.0, 0.0), 2: (0.0, 1.0), 3: (1.0, 1.0)}
        return {r: (corner[r & 3][0] + 0.45 * (r >> 2), corner[r & 3][1] + 0.35 * (r >> 2)) for r in range(n)}
    if name == "spanning_tree":
        return {0: (0, 0), 1: (-1, -1), 2: (1, -1), 3: (-1.5, -2), 4: (-0.5, -2), 5: (0.5, -2), 6: (1.5, -2)}
    around = n - 1 if name == "star" else n
    angles = [np.pi / 2 - 2 * np.pi * i / around for i in range(around)]
    circle = [(float(np.cos(angle)), float(np.sin(angle))) for angle in angles]
    return dict(enumerate([(0.0, 0.0), *circle] if name == "star" else circle))


def draw_filters() -> None:
    """Draw the spectra and responses of some topologies, as ``sgp topology --picture`` does."""
    from launcher.report.filter_picture import save_picture

    names = ("one_peer_exponential", "exponential", "torus", "ring", "directed_ring")
    save_picture([build_topology(name, 16) for name in names], IMAGES.parent / "filters.svg")


def main() -> None:
    """Draw every topology and write the tables of the page."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in TOPOLOGIES.names():
        draw(name)
    draw_filters()
    partial = PAGE.with_suffix(".md.part")
    partial.write_text(page_with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    os.replace(partial, PAGE)


if __name__ == "__main__":
    main()
