"""``sgp topology``: how fast a graph mixes and what it sends, known before any training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launcher.cli.json_output import print_json
from launcher.cli.options import JsonOption
from sgp_core.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    from launcher.cli.topology_view import Figures

LARGEST = 4096
"""The most workers: their eigenvalues take minutes."""

USUAL = 8
"""Workers, if their number is not given."""


def complete_names(incomplete: str) -> list[str]:
    """Offer the names of topologies, separated by commas."""
    from launcher.config.schema import choices

    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in choices("topology") if name.startswith(last)]


def topology(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME,...] [WORKERS]",
            help="As in topology=NAME of sgp-train; several are compared, a line each, by default all.",
            autocompletion=complete_names,
        ),
    ] = None,
    world_size: Annotated[
        int | None,
        typer.Option(
            "--world-size", "--workers", "-n", min=1, max=LARGEST, help=f"Number of workers [default: {USUAL}]."
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="An option of those that have it, as in peers=2."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw spectra and responses, too: a .png, .svg or .pdf file."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how fast a graph mixes, what it costs, and whether another is better.

    Examples: sgp topology one_peer_exponential 12; sgp topology ring,torus,one_peer_exponential 16.
    """
    names, workers = _read_words(words or [], world_size)
    options = _read_options(given or [])
    if picture is not None:
        _check_picture(names, picture)
    if len(names) != 1:
        if options and not names:
            raise ConfigurationError("--option needs a topology: name one")
        _compare(names, workers, options, picture, as_json=as_json)
        return
    from launcher.cli.filter_view import describe_filter
    from launcher.cli.topology_view import as_data, describe, describe_advice

    figures = analyse_topology(names[0], workers, options)
    _draw([figures], picture)
    if as_json:
        print_json(as_data(figures))
        return
    changed = "".join(f", {word}" for word in given or [])
    print(f"{names[0]} over {workers} worker{'s' if workers > 1 else ''}{changed}")
    for title, value in (*describe(figures), *describe_filter(figures.topology), *describe_advice(figures)):
        print(f"  {title:<22} {value}")


def analyse_topology(name: str, world_size: int, given: dict[str, Any]) -> Figures:
    """Return the figures of a topology.

    Raises:
        ConfigurationError: there is no such topology or option, or none over so many workers.
    """
    from launcher.cli.topology_view import Figures
    from launcher.config.coerce import coerce_options
    from launcher.config.schema import choices, options_class
    from sgp_core.topology import build_topology
    from sgp_core.topology.advice import advise
    from sgp_core.topology.analysis import analyse

    if name not in choices("topology"):
        raise ConfigurationError(f"unknown topology '{name}'{did_you_mean(name, choices('topology'))}")
    options = coerce_options("topology", given, options_class("topology", name))
    built = build_topology(name, world_size, **options)
    analysis = analyse(built)
    return Figures(built, options, analysis, advise(built, analysis))


def _compare(names: Sequence[str], workers: int, given: dict[str, Any], picture: Path | None, *, as_json: bool) -> None:
    """Print a line for each topology, the fastest first; if none is named, for all that exist over so many workers."""
    from launcher.cli.topology_view import as_data, print_comparison, sort
    from launcher.config.schema import choices

    options = _options_of(names, given)
    compared: list[Figures] = []
    reasons = {}
    for name in names or choices("topology"):
        try:
            compared.append(analyse_topology(name, workers, options.get(name, {})))
        except ConfigurationError as error:
            if names:
                raise
            reasons[name] = str(error)
    compared = sort(compared)
    _draw(compared, picture)
    if as_json:
        absent = [{"name": name, "error": reason} for name, reason in reasons.items()]
        print_json([*(as_data(one) for one in compared), *absent])
        return
    print_comparison(compared)
    for reason in reasons.values():
        print(reason)


def _check_picture(names: Sequence[str], picture: Path) -> None:
    """Refuse a picture that cannot be drawn, before anything is computed."""
    from launcher.report.filter_picture import FORMATS

    if picture.suffix[1:] not in FORMATS:
        raise ConfigurationError(f"--picture {picture}: the file ends in {', '.join('.' + kind for kind in FORMATS)}")
    if not names:
        raise ConfigurationError("--picture needs topologies: name one or several")


def _draw(drawn: Sequence[Figures], picture: Path | None) -> None:
    if picture is not None:
        from launcher.report.filter_picture import save_picture

        save_picture([one.topology for one in drawn], picture)


def _options_of(names: Sequence[str], given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options of each topology: those given that it has.

    Raises:
        ConfigurationError: none of them has one of the options.
    """
    from launcher.config.schema import choices
    from sgp_core.topology import TOPOLOGIES

    known = {name: set(TOPOLOGIES.options(name)) for name in names if name in choices("topology")}
    everything = sorted(set().union(*known.values()))
    for key in given:
        if key not in everything:
            raise ConfigurationError(f"none of {', '.join(names)} has an option '{key}'{did_you_mean(key, everything)}")
    return {name: {key: value for key, value in given.items() if key in has} for name, has in known.items()}


def _read_words(words: Sequence[str], world_size: int | None) -> tuple[list[str], int]:
    """Return the names, each once, and the number of workers."""
    names = list(dict.fromkeys(name for word in words for name in word.split(",") if name))
    numbers = [name for name in names if name.isdecimal()]
    if len(numbers) + (world_size is not None) > 1:
        raise ConfigurationError("the number of workers is given twice")
    workers = int(numbers[0]) if numbers else USUAL if world_size is None else world_size
    if not 1 <= workers <= LARGEST:
        raise ConfigurationError(f"the number of workers is 1 to {LARGEST}, not {workers}")
    return [name for name in names if name not in numbers], workers


def _read_options(words: Sequence[str]) -> dict[str, Any]:
    """Read options as the command line of ``sgp-train`` would."""
    if not words:
        return {}
    from omegaconf import OmegaConf

    for word in words:
        if "=" not in word:
            raise ConfigurationError(f"--option {word}: an option is key=value, such as peers=2")
    try:
        values: Any = OmegaConf.to_container(OmegaConf.from_dotlist(list(words)))
    except Exception as error:  # YAML and OmegaConf raise many types
        raise ConfigurationError(f"--option {' '.join(words)}: {str(error).splitlines()[0]}") from None
    return {str(key): value for key, value in values.items()}
