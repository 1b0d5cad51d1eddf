"""``sgp calibrate``: measure what a network carries and how fast a model computes, for ``sgp plan``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from launcher.cli.json_output import print_json
from launcher.cli.options import JsonOption
from launcher.runs.number_format import milliseconds, size
from sgp_core.atomic_files import write_json
from sgp_core.errors import ConfigurationError

CALIBRATION = Path("calibration.json")


def calibrate(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[EXPERIMENT] [OVERRIDES]...",
            help="Settings of sgp-train: the model that computes, and cluster=... for where.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The JSON file to write.")] = CALIBRATION,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long to measure, about.")] = 40.0,
    as_json: JsonOption = False,
) -> None:
    """Measure exchanges among the workers and the computation of a step.

    The workers start as those of a run do, on this machine or through SLURM; it takes less than a minute. sgp plan and
    network=file network.path=FILE read what is written.
    """
    from launcher.config.compose import compose
    from launcher.config.make_plan import make_plans
    from launcher.execution.calibration import measure
    from launcher.planning.question import experiment_words

    plans = make_plans(compose(experiment_words(overrides or ["default"])))
    if len(plans) != 1:
        raise ConfigurationError("one experiment is measured at a time; name one value for each setting")
    if plans[0].cluster.elastic:
        raise ConfigurationError("an elastic run is calibrated as its workers are: leave cluster.elastic false")
    if plans[0].cluster.name == "simulator":
        raise ConfigurationError("virtual workers have no network to measure; use cluster=local or cluster=slurm")
    if not out.absolute().parent.is_dir():
        raise ConfigurationError(f"--out {out}: there is no folder {out.absolute().parent}")
    code, found = measure(plans[0], seconds, ["sgp", "calibrate", *(overrides or [])])
    if code or found is None:
        raise typer.Exit(code or 1)
    write_json(out, found)
    if as_json:
        print_json(found)
        return
    for line in describe(found):
        print(line)
    print(f"written to {out}")


def describe(found: dict[str, Any]) -> Iterator[str]:
    """Yield a short table of what was measured."""
    measured, network = found["measured"], found["network"]
    hosts = measured["workers"] // measured["workers_per_host"]
    yield f"{measured['workers']} workers on {hosts} host{'s' if hosts > 1 else ''}, in {measured['took_s']:.0f} s"
    words = {"inside": "to a peer on the host", "across": "to a peer on another host", "all_reduce": "AllReduce"}
    words["update"] = "the update itself"
    for kind, timings in measured["exchanges"].items():
        cells = ", ".join(f"{size(nbytes)} {milliseconds(seconds * 1e3)} ms" for nbytes, seconds in timings)
        yield f"{words[kind]:<26} {cells}"
    for name in ("inside", "bandwidth"):
        mbit, delay = network.get(f"{name}_mbit"), network.get("inside_delay_ms" if name == "inside" else "delay_ms")
        if mbit is not None:
            where = "a host carries inside" if name == "inside" else "a host's link carries"
            yield f"{where:<26} {mbit:,.4g} Mbit/s, delay {delay:.3g} ms"
    if hosts > 2:
        yield slow_links(network, measured["hosts"])
    steps = measured["computation_s"]
    line = f"{milliseconds(steps['together'] * 1e3)} ms, alone {milliseconds(steps['alone'] * 1e3)} ms"
    if steps["busy"] is not None:
        line += f", while messages travel {milliseconds(steps['busy'] * 1e3)} ms"
    yield f"{'a step computes':<26} {line}"


def slow_links(network: dict[str, Any], names: Sequence[str]) -> str:
    """Return a sentence on the hosts and links that are unlike the others."""
    found = []
    for host, link in network.get("hosts", {}).items():
        rates = f"{_rate(link['bandwidth_mbit'])} in, {_rate(link['up_mbit'])} out"
        found.append(f"host {host} ({names[int(host)]}) has {rates}, delay {link['delay_ms']:.3g} ms")
    for pair, link in network.get("pairs", {}).items():
        one, other = pair.split("-")
        rates = f"{_rate(link['up_mbit'])} there, {_rate(link['bandwidth_mbit'])} back"
        found.append(f"hosts {one} and {other} have {rates}, delay {link['delay_ms']:.3g} ms between them")
    if not found:
        return "no host or link differs by more than 25 % from the others"
    return f"unlike the others: {'; '.join(found)}"


def _rate(mbit: float | None) -> str:
    return "no limit" if mbit is None else f"{mbit:,.4g} Mbit/s"
