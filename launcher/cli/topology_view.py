"""What ``sgp topology`` says of a graph, and of several in a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from launcher.cli.filter_view import filter_as_data
from launcher.cli.table_printing import print_table
from launcher.runs.number_format import scientific

if TYPE_CHECKING:
    from sgp_core.topology import Topology
    from sgp_core.topology.advice import Advice, Better
    from sgp_core.topology.analysis import Analysis

_COLUMNS = ("topology", "period", "sent a step", "spectral gap", "exact after", "to 1e-4", "neighbours", "better")
_SHORTEST = 1e-4


@dataclass(frozen=True)
class Figures:
    """One topology: its options, its figures, and where it is weak."""

    topology: Topology
    options: dict[str, Any]
    analysis: Analysis
    advice: Advice


def as_data(figures: Figures) -> dict[str, Any]:
    """Return the figures, with the spectrum and the response, as plain data."""
    data = asdict(figures.analysis)
    del data["bytes_per_step"]  # it needs a model
    second = second_eigenvalue(figures.analysis)
    return {
        **data,
        "second_eigenvalue": second,
        **asdict(figures.advice),
        "filter": filter_as_data(figures.topology),
        "options": figures.options,
    }


def second_eigenvalue(analysis: Analysis) -> float | None:
    """Return the modulus of the second largest eigenvalue of one period's product; None without a period."""
    return None if analysis.period is None else (1 - analysis.spectral_gap) ** analysis.period


def sort(compared: Sequence[Figures]) -> list[Figures]:
    """Return the topologies, the one of fewest steps to 1e-4 first; of as many steps, the one of fewest messages."""

    def key(one: Figures) -> tuple[float, float, str]:
        steps = one.analysis.steps_to[_SHORTEST]
        return inf if steps is None else steps, one.analysis.messages_per_step, one.analysis.name

    return sorted(compared, key=key)


def print_comparison(compared: Sequence[Figures]) -> None:
    """Print a line for each topology; for those that are weak over so many workers the better one."""
    columns = list(_COLUMNS)
    across = _sent_across(compared)
    if across:
        columns.insert(columns.index("sent a step") + 1, "across")
    rows = [
        [
            one.analysis.name,
            str(one.analysis.period or "-"),
            f"{one.analysis.messages_per_step:.3g}",
            *([f"{across[index]:.3g}"] if across else []),
            f"{one.analysis.spectral_gap:.3f}",
            str(one.analysis.exact_in or "-"),
            str(one.analysis.steps_to[_SHORTEST] or "-"),
            f"{one.analysis.effective_neighbors[0.99]:.3g}",
            _better_in_short(one.advice),
        ]
        for index, one in enumerate(compared)
    ]
    print_table(columns, rows, right=columns[1:-1])


def _sent_across(compared: Sequence[Figures]) -> list[float]:
    """Return the messages a step between the regions of the first that has some, of all; [] if none has."""
    from sgp_core.topology.regions import Regions, messages_across

    regions = [one.topology for one in compared if isinstance(one.topology, Regions)]
    return [messages_across(one.topology, regions[0].region_sizes) for one in compared] if regions else []


def describe(figures: Figures) -> Iterator[tuple[str, str]]:
    """Return the figures in words, each with its title."""
    from sgp_core.topology.analysis import HORIZON

    analysis = figures.analysis
    period, second = analysis.period, second_eigenvalue(analysis)
    yield "period", "none: random" if period is None else f"{period} step{'s' if period > 1 else ''}"
    most = analysis.busiest_messages
    at_most = f", at most {most}" if most != analysis.messages_per_step else ""
    yield "sent by a worker", f"{analysis.messages_per_step:.3g} x the model a step{at_most}"
    if analysis.messages_across is not None:
        yield "sent across regions", f"{analysis.messages_across:.3g} x the model a step, all workers together"
    doubly = analysis.row_stochastic and analysis.column_stochastic
    yield "weights", "doubly stochastic" if doubly else "column stochastic: needs PushSum (algorithm=sgp)"
    product = "" if second is None else f"; second eigenvalue of a period's product {second:.3g}"
    yield "spectral gap a step", f"{analysis.spectral_gap:.3f}{product}"
    span = f"over the first {HORIZON} steps" if period is None else "a period"
    yield "contraction", f"{analysis.contraction_per_step:.3g} a step, {analysis.contraction_per_period:.3g} {span}"
    yield "exact mean", "never" if analysis.exact_in is None else f"after {analysis.exact_in} steps"
    reached = [f"{steps or 'never'} to {scientific(to)}" for to, steps in analysis.steps_to.items()]
    yield "steps to a precision", ", ".join(reached) if analysis.world_size > 1 else "0"
    averaged = [f"{workers:.3g} at {gamma:g}" for gamma, workers in analysis.effective_neighbors.items()]
    yield "effective neighbours", f"{', '.join(averaged)}, of {analysis.world_size}"
    if analysis.mean_resistance is not None:
        yield "mean resistance", f"{analysis.mean_resistance:.3g}"


def describe_advice(figures: Figures) -> Iterator[tuple[str, str]]:
    """Return the warnings and what is better, each with its title."""
    for warning in figures.advice.warnings:
        yield "warning", warning
    if figures.advice.better is not None:
        yield "better", _describe_better(figures.advice.better, figures.analysis)


def _better_in_short(advice: Advice) -> str:
    if advice.better is None:
        return "weak" if advice.warnings else ""
    return f"{_title(advice.better)}: {advice.better.steps} to 1e-4"


def _title(better: Better) -> str:
    return " ".join([better.name, *(f"{key}={value}" for key, value in better.options.items())])


def _describe_better(better: Better, analysis: Analysis) -> str:
    exact = "" if better.exact_in is None else f", exact after {better.exact_in} steps"
    here = analysis.effective_neighbors[0.99]
    return (
        f"{_title(better)}: {better.steps} steps to 1e-4{exact}; {better.messages_per_step:.3g} x the model a step;"
        f" effective neighbours {better.effective_neighbors:.3g} at 0.99 (here {here:.3g})"
    )
