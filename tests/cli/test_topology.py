"""``sgp topology``: the figures of a graph."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sgp_core.topology import TOPOLOGIES
from tests.support.sgp_command import Said


def test_an_exact_graph_is_described(sgp: Callable[..., Said]) -> None:
    said = sgp("topology", "one_peer_exponential", "--world-size", "8")
    assert (said.code, said.err) == (0, "")
    heading, *lines = said.out.splitlines()
    assert heading == "one_peer_exponential over 8 workers"
    figures = {line[:24].strip(): line[24:].strip() for line in lines}
    assert figures["period"] == "3 steps"
    assert figures["sent by a worker"] == "1 x the model a step"
    assert figures["spectral gap a step"] == "1.000; second eigenvalue of a period's product 0"
    assert figures["exact mean"] == "after 3 steps"


def test_figures_as_json(sgp: Callable[..., Said]) -> None:
    figures = sgp("topology", "ring", "-n", "4", "--json").json
    assert figures["second_eigenvalue"] == pytest.approx(1 / 3)
    assert figures["spectral_gap"] == pytest.approx(2 / 3)
    assert (figures["period"], figures["messages_per_step"], figures["options"]) == (1, 2, {"weights": "uniform"})


def test_options_are_read_and_checked_as_by_sgp_train(sgp: Callable[..., Said]) -> None:
    assert sgp("topology", "one_peer_exponential", "-n", "16", "-o", "peers=3", "--json").json["exact_in"] == 2
    phases = "phases=[{start: 0, name: complete}, {start: 10, name: ring}]"
    assert sgp("topology", "schedule", "-n", "4", "-o", "unit=step", "-o", phases).code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnig"], "unknown topology 'rnig'; did you mean 'ring'?"),
        (["ring", "-o", "weight=uniform"], "topology has no option 'weight'; did you mean 'weights'?"),
        (["ring", "-o", "uniform"], "--option uniform: an option is key=value, such as peers=2"),
        (["one_peer_exponential", "-o", "peers=two"], "topology.peers=two: expected a whole number"),
        (["one_peer_exponential", "-o", "peers=[1"], "--option peers=[1: while parsing a flow sequence"),
        (["hypercube", "-n", "6"], "topology 'hypercube' needs a power of two, not 6 workers; nearest: 4 or 8"),
    ],
)
def test_mistakes(arguments: list[str], message: str, sgp: Callable[..., Said]) -> None:
    said = sgp("topology", *arguments)
    assert (said.code, said.out, said.err) == (2, "", f"sgp: {message}\n")


@pytest.mark.parametrize("name", sorted(set(TOPOLOGIES.names()) - {"custom", "schedule"}))
@pytest.mark.parametrize("world_size", ["1", "4"])
def test_every_graph_has_figures(name: str, world_size: str, sgp: Callable[..., Said]) -> None:
    assert sgp("topology", name, "-n", world_size).code == 0
    assert sgp("topology", name, "-n", world_size, "--json").json["world_size"] == int(world_size)


def test_all_graphs_in_a_line_each(sgp: Callable[..., Said]) -> None:
    said = sgp("topology", "--workers", "6")
    assert said.code == 0
    lines = {line.split()[0]: line.split()[1:] for line in said.out.splitlines()}
    assert lines["complete"] == ["1", "5", "1.000", "1"]
    assert "topology 'hypercube' needs a power of two, not 6 workers; nearest: 4 or 8" in said.out
    figures = {one["name"]: one for one in sgp("topology", "-n", "6", "--json").json}
    assert set(figures) == set(TOPOLOGIES.names())
    assert "power of two" in figures["hypercube"]["error"]
    assert sgp("topology", "-o", "peers=2").err == "sgp: --option needs a topology: name one\n"
