"""Draws docs/images/architecture.svg and traces a step for docs/architecture.md: ``python -m docs.make_architecture``.

Rows of the drawing are the layers that pyproject.toml declares and ``lint-imports`` enforces. A line leads from a part
to one that it imports, unless another way through lines leads there as well. The launcher's imports of the library are
one arrow, and those of the modules at the bottom, which every layer may import, are left out.
"""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from xml.sax.saxutils import escape

import grimp
import networkx as nx
import torch
import torch.distributed as dist

import sgp_core
from tests.support.workers import run_workers

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_name("architecture.md")
BEGIN, END = "<!-- step, written by docs/make_architecture.py -->", "<!-- end of step -->"
PICTURE = Path(__file__).parent / "images" / "architecture.svg"
COLOURS = {"launcher": ("#e8f0fe", "#3b6fb6"), "sgp_core": ("#eaf6ec", "#2e7d4f")}
"""Fill and outline of the boxes of each package."""
BASE = {"atomic_files", "checkpoint_files", "errors", "metrics", "plugins", "registry", "timeline", "validation"}
"""Small modules that every layer may import. Lines from higher layers to them are left out."""
WIDTH, MARGIN = 760, 30
BOX_HEIGHT, ROW_HEIGHT, GAP = 30, 58, 74
LETTER = 8.2
"""Width of a letter, in points; the font is monospaced."""


@dataclass(frozen=True)
class Box:
    """A package or module of the drawing, by the middle of its box."""

    x: float
    y: float
    width: float


def main() -> None:
    """Write the drawing and the list in the page."""
    PICTURE.write_text(drawing(), encoding="utf-8")
    PAGE.write_text(page_with_step(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def page_with_step(page: str) -> str:
    """Return the page with the files that a step crosses, in the order in which it first enters them."""
    files = run_workers(2, trace_step)[0]
    lines = [f"{number}. `sgp_core/{file}`: {', '.join(f'`{name}`' for name in names)}"
             for number, (file, names) in enumerate(files.items(), start=1)]  # fmt: skip
    before, _, rest = page.partition(BEGIN)
    return "\n".join([before + BEGIN, *lines, END + rest.partition(END)[2]])


def trace_step() -> dict[str, list[str]]:
    """Return the files of the library that a steady step of ``sgp`` over ``p2p`` enters, and the functions in each."""
    model = torch.nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    topology = sgp_core.build_topology("one_peer_exponential", world_size=dist.get_world_size())
    algorithm = sgp_core.build_algorithm("sgp")
    sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=topology, transport="p2p")
    entered: dict[str, list[str]] = {}
    package = f"{Path(sgp_core.__file__).parent}/"

    def note(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(package):
            names = entered.setdefault(code.co_filename.removeprefix(package), [])
            if code.co_qualname not in names and "<" not in code.co_qualname:
                names.append(code.co_qualname)

    for step in range(3):
        model(torch.ones(2, 8)).sum().backward()
        sys.setprofile(note if step == 2 else None)
        optimizer.step()
        sys.setprofile(None)
    return entered


def drawing() -> str:
    """Return the drawing as SVG."""
    parts: list[str] = []
    bottom = float(MARGIN)
    for package in COLOURS:
        if parts:
            parts.append(_arrow(bottom - 12, bottom + 34))
            bottom += 44
        block, bottom = _block(package, bottom)
        parts += block
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom:.0f}" font-family="monospace">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{bottom:.0f}" fill="#ffffff"/>', *parts, "</svg>", ""])


def layers(package: str) -> list[list[str]]:
    """Return the layers of a package, the highest first, as pyproject.toml has them; a row has no imports inside."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [rows] = [contract["layers"] for contract in contracts if contract.get("containers") == [package]]
    present = {path.stem for path in (ROOT / package).iterdir()}
    named = [[name for name in re.findall(r"\w+", row) if name in present] for row in rows]
    graph = imports(package)
    split = [part for row in named for part in nx.topological_generations(graph.subgraph(row))]
    return [sorted(part) for part in split]


def imports(package: str) -> nx.DiGraph:
    """Return which part of a package imports which, without those that follow from others."""
    modules = grimp.build_graph(package, exclude_type_checking_imports=False, cache_dir=None)
    graph = nx.DiGraph()
    for module in modules.modules:
        for other in modules.find_modules_directly_imported_by(module):
            ends = [name.split(".")[1] for name in (module, other) if name.count(".")]
            if len(set(ends)) == 2:
                graph.add_edge(*ends)
    return nx.transitive_reduction(graph)


def _block(package: str, top: float) -> tuple[list[str], float]:
    """Return the drawing of a package, and where it ends."""
    rows, graph = layers(package), imports(package)
    fill, line = COLOURS[package]
    boxes = _places(rows, graph, top + 52)
    bottom = top + 52 + ROW_HEIGHT * len(rows)
    parts = [
        f'<rect x="{MARGIN / 2}" y="{top:.0f}" width="{WIDTH - MARGIN}" height="{bottom - top - 8:.0f}" rx="10"'
        f' fill="none" stroke="{line}"/>',
        f'<text x="{MARGIN}" y="{top + 24:.0f}" font-size="16" font-weight="bold" fill="{line}">{package}</text>',
    ]
    for upper, lower in sorted(graph.edges):
        if lower in BASE and upper not in BASE:
            continue
        parts.append(_line(boxes[upper], boxes[lower], line))
    for name, box in boxes.items():
        parts.append(
            f'<rect x="{box.x - box.width / 2:.1f}" y="{box.y - BOX_HEIGHT / 2:.1f}" width="{box.width:.1f}"'
            f' height="{BOX_HEIGHT}" rx="6" fill="{fill}" stroke="{line}"/>'
        )
        parts.append(
            f'<text x="{box.x:.1f}" y="{box.y + 4.5:.1f}" font-size="13" text-anchor="middle" fill="#1c1c1c">'
            f"{escape(name)}</text>"
        )
    return parts, bottom


def _places(rows: list[list[str]], graph: nx.DiGraph, top: float) -> dict[str, Box]:
    """Return the place of every part: below what imports it, as near as the others in its row leave room."""
    boxes: dict[str, Box] = {}
    for number, row in enumerate(rows):
        wish = {name: _mean([boxes[upper].x for upper in _importers(graph, name)]) for name in row}
        widths = {name: LETTER * len(name) + 22 for name in row}
        order = sorted(row, key=lambda name: (wish[name], name))
        xs: list[float] = []
        for name in order:
            least = xs[-1] + (widths[order[len(xs) - 1]] + widths[name]) / 2 + GAP if xs else 0.0
            xs.append(max(wish[name], least))
        shift = _mean([wish[name] for name in order]) - _mean(xs)
        y = top + ROW_HEIGHT * number
        boxes |= {name: Box(x + shift, y, widths[name]) for name, x in zip(order, xs, strict=True)}
    return boxes


def _importers(graph: nx.DiGraph, name: str) -> list[str]:
    """Return what leads to a part in the drawing."""
    above = graph.predecessors(name) if name in graph else []
    return sorted(upper for upper in above if name not in BASE or upper in BASE)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else WIDTH / 2


def _line(upper: Box, lower: Box, colour: str) -> str:
    begin, end = upper.y + BOX_HEIGHT / 2, lower.y - BOX_HEIGHT / 2
    bend = (end - begin) / 2
    return (
        f'<path d="M{upper.x:.1f} {begin:.1f}C{upper.x:.1f} {begin + bend:.1f} {lower.x:.1f} {end - bend:.1f}'
        f' {lower.x:.1f} {end:.1f}" fill="none" stroke="{colour}" stroke-opacity="0.55" stroke-width="1.3"/>'
    )


def _arrow(begin: float, end: float) -> str:
    x = WIDTH / 2
    return (
        f'<path d="M{x} {begin + 6:.0f}V{end:.0f}M{x - 7} {end - 9:.0f}L{x} {end:.0f}L{x + 7} {end - 9:.0f}"'
        f' fill="none" stroke="#444444" stroke-width="2"/>\n'
        f'<text x="{x + 16}" y="{(begin + end) / 2 + 6:.0f}" font-size="12"'
        f' fill="#444444">imports, and never the other way</text>'
    )


if __name__ == "__main__":
    main()
