"""A slow host, or a slow link between two, is found among many, and the clock then has their exchanges again."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.cli.commands.calibrate import slow_links
from sgp_core.calibration.pairs import tournament
from sgp_core.calibration.slow_links import Reach, links_that_differ
from sgp_core.clock import NetworkModel
from sgp_core.clock.fluid import transfer
from sgp_core.clock.wiring import Wiring

MBIT = 1e6 / 8
USUAL, DELAY = 100 * MBIT, 0.001


def reaches_of(
    hosts: int,
    slow: dict[int, tuple[float, float, float]],
    wires: dict[tuple[int, int], tuple[float, float]],
    noise: dict[tuple[int, int], float],
) -> list[Reach]:
    """Return what hosts reach each other with; some have another up, down and delay, some wires a rate and a delay."""
    found = []
    for one, other in permutations(range(hosts), 2):
        up, _, far = slow.get(one, (USUAL, USUAL, DELAY))
        _, down, away = slow.get(other, (USUAL, USUAL, DELAY))
        wire, delay = wires.get((min(one, other), max(one, other)), (np.inf, max(far, away)))
        found.append(Reach(one, other, min(up, down, wire) * noise.get((one, other), 1.0), delay))
    return found


def fitted(reaches: list[Reach], per_host: int = 1) -> dict[str, Any]:
    """Return options as fitted to exchanges with the next host, which cost a tenth more than those of pairs."""
    hosts = 1 + max(one.sender for one in reaches)
    following = [one for one in reaches if one.receiver == (one.sender + 1) % hosts]
    rate, delay = min(one.rate for one in following) / 1.1, max(one.delay for one in following)
    return {
        "workers_per_host": per_host,
        "payload": 1.0,
        "bandwidth_mbit": rate / MBIT,
        "delay_ms": delay * 1e3,
    }


@settings(max_examples=60, deadline=None)
@given(data=st.data(), hosts=st.integers(3, 9))
def test_the_clock_has_the_exchanges_of_each_two_hosts_again(data: st.DataObject, hosts: int) -> None:
    """Whatever noise below 10 % there is; a minority of hosts and any links are slow."""
    share, away = st.floats(0.01, 0.6), st.floats(0.002, 0.05)
    odd = data.draw(st.sets(st.integers(0, hosts - 1), max_size=(hosts - 1) // 2), label="slow hosts")
    slow = {
        host: (data.draw(share) * USUAL, data.draw(share) * USUAL, data.draw(st.one_of(st.just(DELAY), away)))
        for host in odd
    }
    ends = [(one, other) for one in range(hosts) for other in range(one + 1, hosts) if not {one, other} & odd]
    wires = {}
    if len(ends) > 3:
        wires = {data.draw(st.sampled_from(ends)): (data.draw(share) * USUAL, data.draw(away))}
    noise = {pair: data.draw(st.floats(0.95, 1.0)) for pair in permutations(range(hosts), 2)}
    reaches = reaches_of(hosts, slow, wires, noise)
    options = links_that_differ(reaches, fitted(reaches))
    assert set(map(int, options.get("hosts", {}))) == odd
    wiring = Wiring(NetworkModel.from_options(options), hosts)
    for one in reaches:
        routes = wiring.routes(np.array([one.sender]), np.array([one.receiver]))
        seconds = transfer(routes, wiring.capacity, np.zeros(1), np.array([1e6]))[0]
        assert 1e6 / seconds == pytest.approx(one.rate / 1.1, rel=0.35)
        assert routes.delay[0] == pytest.approx(one.delay, abs=0.3e-3, rel=0.3)


@given(hosts=st.integers(2, 6), seed=st.integers(0, 1000), delay=st.floats(0.0, 0.01))
def test_hosts_that_are_alike_have_no_entries(hosts: int, seed: int, delay: float) -> None:
    rng = np.random.default_rng(seed)
    reaches = [
        Reach(one, other, USUAL * rng.uniform(0.9, 1.1), delay + rng.uniform(0.0, 1e-4))
        for one, other in permutations(range(hosts), 2)
    ]
    options = {"workers_per_host": 2, "bandwidth_mbit": 90.0, "delay_ms": 1.0}
    assert links_that_differ(reaches, options) == options


def test_no_link_has_more_than_a_bare_message() -> None:
    """Steps with small messages may look faster than the link is; collectives stay as they were measured."""
    reaches = reaches_of(4, {2: (10 * MBIT, 100 * MBIT, DELAY)}, {}, {})
    options = links_that_differ(reaches, {"bandwidth_mbit": 14.0, "delay_ms": 1.0, "collective_speed": 1.2})
    assert options["bandwidth_mbit"] == pytest.approx(100.0)
    assert options["hosts"] == {"2": {"bandwidth_mbit": 100.0, "up_mbit": 10.0, "delay_ms": 1.0}}
    assert options["collective_speed"] * 10.0 == pytest.approx(1.2 * 14.0)


def test_a_report_names_them_in_a_sentence() -> None:
    names = ["alpha", "beta", "gamma", "delta"]
    reaches = reaches_of(4, {2: (10 * MBIT, 20 * MBIT, 0.005)}, {(0, 3): (30 * MBIT, 0.002)}, {})
    options = links_that_differ(reaches, fitted(reaches))
    assert options["bandwidth_mbit"] == pytest.approx(100 / 1.1, rel=1e-3)
    assert slow_links(options, names) == (
        "unlike the others: host 2 (gamma) has 18.18 Mbit/s in, 9.091 Mbit/s out, delay 5 ms;"
        " hosts 0 and 3 have 27.27 Mbit/s there, 27.27 Mbit/s back, delay 2 ms between them"
    )
    alike = reaches_of(4, {}, {}, {})
    assert slow_links(links_that_differ(alike, fitted(alike)), names).startswith("no host or link differs")


@pytest.mark.parametrize("hosts", range(1, 18))
def test_in_a_tournament_every_two_hosts_meet_once(hosts: int) -> None:
    rounds = tournament(hosts)
    assert len(rounds) == hosts - 1 + hosts % 2
    met = []
    for opponents in rounds:
        assert all(opponents[opponents[host]] == host for host in range(hosts))
        met += [(host, other) for host, other in enumerate(opponents) if host < other]
    assert sorted(met) == [(one, other) for one in range(hosts) for other in range(one + 1, hosts)]
