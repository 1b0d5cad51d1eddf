"""``sgp topology``: how fast a graph mixes and what it sends, known before any training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launcher.cli.json_output import print_json
from launcher.cli.options import JsonOption
from launcher.cli.table_printing import print_table
from launcher.runs.number_format import scientific
from sgp_core.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    from sgp_core.topology.analysis import Analysis

LARGEST = 4096
"""The most workers: their eigenvalues take minutes."""


def complete_names(incomplete: str) -> list[str]:
    """Offer the names of topologies."""
    from launcher.config.schema import choices

    return [name for name in choices("topology") if name.startswith(incomplete)]


def topology(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="As in topology=NAME of sgp-train; by default all, a line each.",
            autocompletion=complete_names,
        ),
    ] = None,
    world_size: Annotated[
        int, typer.Option("--world-size", "--workers", "-n", min=1, max=LARGEST, help="Number of workers.")
    ] = 8,
    given: Annotated[
        list[str] | None, typer.Option("--option", "-o", metavar="KEY=VALUE", help="An option of it, as in peers=2.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how fast a graph mixes and what it costs."""
    if name is None:
        if given:
            raise ConfigurationError("--option needs a topology: name one")
        _list_all(world_size, as_json=as_json)
        return
    options, analysis = analyse_topology(name, world_size, _read(given or []))
    if as_json:
        print_json({**as_data(analysis), "options": options})
        return
    changed = "".join(f", {word}" for word in given or [])
    print(f"{name} over {world_size} worker{'s' if world_size > 1 else ''}{changed}")
    for title, value in describe(analysis):
        print(f"  {title:<22} {value}")


def analyse_topology(name: str, world_size: int, given: dict[str, Any]) -> tuple[dict[str, Any], Analysis]:
    """Return all options of a topology, and its figures.

    Raises:
        ConfigurationError: there is no such topology or option, or none over so many workers.
    """
    from launcher.config.coerce import coerce_options
    from launcher.config.schema import choices, options_class
    from sgp_core.topology import build_topology
    from sgp_core.topology.analysis import analyse

    if name not in choices("topology"):
        raise ConfigurationError(f"unknown topology '{name}'{did_you_mean(name, choices('topology'))}")
    options = coerce_options("topology", given, options_class("topology", name))
    return options, analyse(build_topology(name, world_size, **options))


def as_data(analysis: Analysis) -> dict[str, Any]:
    """Return the figures as plain data."""
    figures = asdict(analysis)
    del figures["bytes_per_step"]  # it needs a model
    return {**figures, "second_eigenvalue": second_eigenvalue(analysis)}


def _list_all(world_size: int, *, as_json: bool) -> None:
    """Print a line for each topology that exists over so many workers, the fastest mixing first."""
    from launcher.config.schema import choices

    existing: list[Analysis] = []
    reasons = {}
    for name in choices("topology"):
        try:
            existing.append(analyse_topology(name, world_size, {})[1])
        except ConfigurationError as error:
            reasons[name] = str(error)
    existing.sort(key=lambda analysis: -analysis.spectral_gap)
    if as_json:
        absent = [{"name": name, "error": reason} for name, reason in reasons.items()]
        print_json([*(as_data(analysis) for analysis in existing), *absent])
        return
    columns = ["topology", "period", "sent a step", "spectral gap", "exact after"]
    rows = [
        [
            one.name,
            str(one.period or "-"),
            f"{one.messages_per_step:.3g}",
            f"{one.spectral_gap:.3f}",
            str(one.exact_in or "-"),
        ]
        for one in existing
    ]
    print_table(columns, rows, right=columns[1:])
    for reason in reasons.values():
        print(reason)


def second_eigenvalue(analysis: Analysis) -> float | None:
    """Return the modulus of the second largest eigenvalue of one period's product; None without a period."""
    return None if analysis.period is None else (1 - analysis.spectral_gap) ** analysis.period


def describe(analysis: Analysis) -> Iterator[tuple[str, str]]:
    """Return the figures in words, each with its title."""
    from sgp_core.topology.analysis import HORIZON

    period, second = analysis.period, second_eigenvalue(analysis)
    yield "period", "none: random" if period is None else f"{period} step{'s' if period > 1 else ''}"
    most = analysis.busiest_messages
    at_most = f", at most {most}" if most != analysis.messages_per_step else ""
    yield "sent by a worker", f"{analysis.messages_per_step:.3g} x the model a step{at_most}"
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


def _read(words: Sequence[str]) -> dict[str, Any]:
    """Read options as the command line of ``sgp-train`` would."""
    from omegaconf import OmegaConf

    for word in words:
        if "=" not in word:
            raise ConfigurationError(f"--option {word}: an option is key=value, such as peers=2")
    try:
        values: Any = OmegaConf.to_container(OmegaConf.from_dotlist(list(words)))
    except Exception as error:  # YAML and OmegaConf raise many types
        raise ConfigurationError(f"--option {' '.join(words)}: {str(error).splitlines()[0]}") from None
    return {str(key): value for key, value in values.items()}
