"""``sgp topology``: the figures of a graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
    assert lines["complete"] == ["1", "5", "18", "1.000", "1", "1", "6"]
    assert "topology 'hypercube' needs a power of two, not 6 workers; nearest: 4 or 8" in said.out
    figures = {one["name"]: one for one in sgp("topology", "-n", "6", "--json").json}
    assert set(figures) == set(TOPOLOGIES.names())
    assert "power of two" in figures["hypercube"]["error"]
    assert sgp("topology", "-o", "peers=2").err == "sgp: --option needs a topology: name one\n"


def test_a_topology_that_is_weak_for_so_many_workers_names_the_better_one(sgp: Callable[..., Said]) -> None:
    """Done when 8 of the plan: no power of two, the residual of a period, base_k with its steps."""
    said = sgp("topology", "one_peer_exponential", "12")
    figures = {line[:24].strip(): line[24:].strip() for line in said.out.splitlines()[1:]}
    assert figures["warning"].startswith("12 is no power of two: a period of 4 steps leaves a residual of 0.209 (")
    assert figures["warning"].endswith("over 8 or 16 workers it is")
    assert figures["better"].startswith("base_k: 5 steps to 1e-4, exact after 5 steps; 0.8 x the model a step")
    data = sgp("topology", "one_peer_exponential", "12", "--json").json
    assert len(data["warnings"]) == 1
    assert (data["better"]["name"], data["better"]["exact_in"]) == ("base_k", 5)
    assert "warning" not in sgp("topology", "one_peer_exponential", "16").out


def test_topologies_are_compared_the_fastest_first(sgp: Callable[..., Said]) -> None:
    heading, *lines = sgp("topology", "ring,torus,one_peer_exponential", "16").out.splitlines()
    assert heading.split()[0] == "topology"
    assert [line.split()[0] for line in lines] == ["one_peer_exponential", "torus", "ring"]
    assert lines[0].split()[1:] == ["4", "1", "1.000", "4", "4", "14.4"]
    assert lines[2].endswith("one_peer_exponential: 4 to 1e-4")
    data = sgp("topology", "ring", "one_peer_exponential", "-n", "16", "-o", "peers=3", "--json").json
    assert [one["name"] for one in data] == ["one_peer_exponential", "ring"]
    assert [one["options"] for one in data] == [{"peers": 3}, {"weights": "uniform"}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ring", "8", "-n", "8"], "the number of workers is given twice"),
        (["ring", "8", "16"], "the number of workers is given twice"),
        (["ring", "0"], "the number of workers is 1 to 4096, not 0"),
        (["ring,rnig", "8"], "unknown topology 'rnig'; did you mean 'ring'?"),
        (["ring,star", "8", "-o", "peers=2"], "none of ring, star has an option 'peers'; known: weights"),
        (["ring,hypercube", "6"], "topology 'hypercube' needs a power of two, not 6 workers; nearest: 4 or 8"),
    ],
)
def test_mistakes_in_a_comparison(arguments: list[str], message: str, sgp: Callable[..., Said]) -> None:
    said = sgp("topology", *arguments)
    assert (said.code, said.out, said.err) == (2, "", f"sgp: {message}\n")


def test_a_graph_as_a_filter(sgp: Callable[..., Said], tmp_path: Path) -> None:
    lines = sgp("topology", "ring", "4", "--picture", tmp_path / "one.png").out.splitlines()
    figures = {line[:24].strip(): line[24:].strip() for line in lines}
    assert figures["eigenvalues"] == "1, 0.333 x2, -0.333"
    assert figures["left after 1 round"] == "█▃▃▃ 0.33"
    assert figures["left after 4 rounds"] == "█▁▁▁ 0.012; Chebyshev █▁▁▁ 0.0017"
    data = sgp("topology", "ring,random_matching", "4", "--json", "--picture", tmp_path / "several.svg").json
    of_ring = next(one for one in data if one["name"] == "ring")["filter"]
    assert of_ring["eigenvalues"][0] == pytest.approx([1, 0])
    assert of_ring["left_after_rounds"]["4"] == pytest.approx(3**-4)
    assert of_ring["left_after_rounds_chebyshev"]["4"] == pytest.approx(1 / 577)  # 1 / T_4(3)
    assert next(one for one in data if one["name"] == "random_matching")["filter"] is None
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert "random_matching" in (tmp_path / "several.svg").read_text()
    assert (
        sgp("topology", "ring", "--picture", "a.gif").err == "sgp: --picture a.gif: the file ends in .png, .svg, .pdf\n"
    )
    assert sgp("topology", "--picture", "a.png").err == "sgp: --picture needs topologies: name one or several\n"
    assert sgp("topology", "ring", "--picture", tmp_path / "no" / "a.png").code == 2
