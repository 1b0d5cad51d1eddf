"""Topologies as graph filters in one picture: spectra, the response to each component, and what is left at most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from launcher.report import palette
from launcher.report.figure_style import RULE, STYLE
from sgp_core.atomic_files import replace_file
from sgp_core.topology import Topology
from sgp_core.topology.chebyshev import worst_gain
from sgp_core.topology.spectrum import Spectrum, left_after, spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "svg", "pdf")
ROUNDS = 64
_SHOWN = (1, 4, 16, 64)
_LEAST = 1e-9


def save_picture(topologies: Sequence[Topology], path: Path) -> None:
    """Draw ``topologies``, of one number of workers, to ``path``, whose suffix is one of :data:`FORMATS`.

    Raises:
        OSError: the file cannot be written.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    spectra = [spectrum(topology) for topology in topologies]
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "none"}):
        figure = Figure(figsize=(13, 3.8), layout="constrained")
        FigureCanvasAgg(figure)
        plane, components, rounds = figure.subplots(1, 3)
        _draw_plane(plane, spectra)
        alone = spectra[0] if len(spectra) == 1 else None
        if alone is not None:
            _draw_responses(components, alone)
        else:
            _draw_rates(components, topologies, spectra)
        _draw_rounds(rounds, topologies, spectra)
        kind = path.suffix[1:]
        with replace_file(path) as temporary:
            figure.savefig(temporary, format=kind, metadata={"Date": None} if kind == "svg" else None)


def _colour(index: int) -> Any:
    return palette.LIGHT[palette.style(index)[0]]


def _draw_plane(axes: Axes, spectra: Sequence[Spectrum | None]) -> None:
    axes.set_title("Eigenvalues of a period")
    circle = np.exp(2j * np.pi * np.linspace(0, 1, 200))
    axes.plot(circle.real, circle.imag, color=RULE, linewidth=1)
    axes.axhline(0, color=RULE, linewidth=1)
    for index, found in enumerate(spectra):
        if found is not None:
            values = found.eigenvalues
            axes.scatter(values.real, values.imag, s=26 - 4 * min(index, 4), color=_colour(index), alpha=0.75, zorder=3)
    axes.set_aspect("equal")
    axes.set_xlabel("real", loc="right")
    axes.set_ylabel("imaginary", loc="top")


def _draw_responses(axes: Axes, found: Spectrum) -> None:
    """One graph: what some numbers of rounds leave of each component, accelerated ones dashed."""
    what = "rounds" if found.period == 1 else "periods"
    axes.set_title(f"Left of each component after k {what}")
    places = np.arange(len(found.eigenvalues))
    for index, count in enumerate(_SHOWN):
        axes.plot(places, found.response(count), color=_colour(index), marker=".", label=f"k = {count}")
        accelerated = found.accelerated(count)
        if accelerated is not None and count > 1:
            axes.plot(places, accelerated, color=_colour(index), dashes=(3, 2), label=f"k = {count}, Chebyshev")
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("component, the mean first", loc="right")
    axes.grid(axis="y")
    axes.legend(fontsize=8)


def _draw_rates(axes: Axes, topologies: Sequence[Topology], spectra: Sequence[Spectrum | None]) -> None:
    """Several graphs: what a round leaves of each component, on average over a period."""
    axes.set_title("Left of each component a round")
    for index, (topology, found) in enumerate(zip(topologies, spectra, strict=True)):
        if found is not None:
            rates = found.response(1) ** (1 / found.period)
            axes.plot(np.arange(len(rates)), rates, color=_colour(index), marker=".", label=topology.name)
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("component, the mean first", loc="right")
    axes.grid(axis="y")
    axes.legend(fontsize=8)


def _draw_rounds(axes: Axes, topologies: Sequence[Topology], spectra: Sequence[Spectrum | None]) -> None:
    axes.set_title("Left at most after k rounds, ||P...P - J||")
    counts = tuple(range(1, ROUNDS + 1))
    for index, (topology, found) in enumerate(zip(topologies, spectra, strict=True)):
        _draw_left(axes, counts, left_after(topology, counts), label=topology.name, color=_colour(index))
        if found is not None and found.rho is not None:
            fast = [worst_gain(found.rho, count) for count in counts]
            _draw_left(axes, counts, fast, label=f"{topology.name}, Chebyshev", color=_colour(index), dashes=(3, 2))
    axes.set_yscale("log")
    axes.set_ylim(_LEAST, 2)
    axes.set_xlabel("rounds k", loc="right")
    axes.grid(axis="y")
    axes.legend(fontsize=8)


def _draw_left(axes: Axes, counts: Sequence[int], left: Sequence[float], **style: Any) -> None:
    """Draw until the mean is exact, a drop to the bottom."""
    values = np.where(np.asarray(left) > _LEAST / 10, left, _LEAST / 10)
    axes.plot((0, *counts), (1.0, *values), **style)
