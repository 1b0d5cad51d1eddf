"""Networks and computations as users choose them: options, files, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgp_core import ConfigurationError
from sgp_core.clock import (
    COMPUTATIONS,
    NETWORKS,
    ComputationModel,
    NetworkModel,
    build_computation,
    build_network_model,
)
from sgp_core.clock.choices import check_clock, with_content
from sgp_core.clock.wiring import Wiring
from sgp_core.timeline import SETTLING, Timeline

FILES = {"file", "trace"}


@pytest.mark.parametrize("name", sorted(set(NETWORKS.names()) - FILES))
def test_a_network_is_its_options(name: str) -> None:
    network = NetworkModel.from_options({"name": name, "delay_ms": 7.0})
    assert NetworkModel.from_options(json.loads(json.dumps(network.options()))) == network
    assert Wiring(network, 8).capacity.min() > 0


@pytest.mark.parametrize("name", sorted(set(COMPUTATIONS.names()) - FILES))
def test_a_computation_is_a_function_of_step_and_seed(name: str) -> None:
    model = ComputationModel.from_options({"name": name})
    assert ComputationModel.from_options(json.loads(json.dumps(model.options()))) == model
    drawn = [model.seconds(step, 16, 3) for step in (0, 1, 0)]
    assert (drawn[0] == drawn[2]).all()
    assert drawn[0].shape == (16,)
    assert drawn[0].min() > 0


def test_nothing_is_no_model() -> None:
    assert build_network_model({"name": "none"}) is build_computation({"name": "none"}) is None


def test_stalls_have_their_probability() -> None:
    stalls = {"name": "stalls", "slow_worker": 0}
    one, each = (ComputationModel.from_options({**stalls, "who": who}) for who in ("one", "each"))
    share = {model: np.mean([model.seconds(step, 8, 0)[1:] > 0.1 for step in range(2000)]) for model in (one, each)}
    assert share[one] == pytest.approx(0.25 / 8, abs=0.005)
    assert share[each] == pytest.approx(0.25, abs=0.01)
    assert one.seconds(0, 8, 0)[0] >= 0.4


def test_a_network_file_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    path.write_text(json.dumps({"network": {"bandwidth_mbit": 321.0}, "measured": [1, 2]}))
    chosen = with_content("network", {"name": "file", "path": str(path)})
    path.unlink()
    network = build_network_model(json.loads(json.dumps(chosen)))
    assert network is not None
    assert network.bandwidth_mbit == 321.0


def record(folder: Path, rank: int, compute_us: list[float]) -> None:
    """Record steps in which a worker waits 5 ms for messages beside computing."""
    timeline = Timeline(folder / "timeline" / f"rank-{rank}.json", rank, len(compute_us))
    begin = 0
    for step, length in enumerate([1.0] * SETTLING + compute_us):
        timeline.begin_step(step)
        computed = begin + int(length * 1e3)
        timeline.span("mix", computed, computed + 5_000_000, bytes=1)
        end = computed + 5_000_000
        if timeline.recording:
            timeline.span("step", begin, end, step=step)
        begin = end
    timeline.write()


def test_a_trace_repeats_what_a_run_recorded(tmp_path: Path) -> None:
    record(tmp_path, 0, [1000.0, 2000.0, 3000.0])
    record(tmp_path, 1, [4000.0, 5000.0, 6000.0])
    chosen = with_content("computation", {"name": "trace", "path": str(tmp_path)})
    model = build_computation(json.loads(json.dumps(chosen)))
    assert model is not None
    seconds = np.array([model.seconds(step, 2, 0) for step in range(4)])
    assert seconds == pytest.approx(np.array([[1e-3, 4e-3], [2e-3, 5e-3], [3e-3, 6e-3], [1e-3, 4e-3]]))
    assert model.seconds(0, 4, 0).tolist() == pytest.approx([1e-3, 4e-3, 2e-3, 5e-3])  # others, a step further on


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"name": "ethernet_1g", "hosts": {"8": {"bandwidth_mbit": 1}}}, {}, "a host must be below the number of hosts, 8"),
    ({"name": "ethernet_1g", "hosts": {"a": {}}}, {}, "a host must be a number from 0, not a"),
    ({"name": "ethernet_1g", "hosts": {"1": {"bandwith": 1}}}, {}, "did you mean 'bandwidth_mbit'"),
    ({"name": "ethernet_1g", "hosts": {"1": 5}}, {}, "must be options such as"),
    ({"name": "ethernet_1g", "pairs": {"0:1": {}}}, {}, "a pair is two hosts such as 0-3, not 0:1"),
    ({"name": "ethernet_1g", "pairs": {"2-2": {}}}, {}, "a pair is two hosts"),
    (
        {"name": "ethernet_1g", "regions": [{"hosts": 3}, {"hosts": 4}]},
        {},
        "2 regions of 3 \\+ 4 hosts, but there are 8",
    ),
    ({"name": "ethernet_1g", "bandwidth_mbit": -1.0}, {}, "network.bandwidth_mbit must be positive or null"),
    ({"name": "ethernet_1g", "collective": "star"}, {}, "network.collective cannot be 'star'"),
    ({"name": "ethernet_1g", "speed": 3}, {}, "has no option 'speed'"),
    ({"name": "file"}, {}, "network.path must be given"),
    ({"name": "file", "path": "/nowhere.json"}, {}, "network.path=/nowhere.json cannot be read"),
    (
        {"name": "none"},
        {"name": "slow_worker", "worker": 8},
        "computation.worker must be below the number of workers, 8",
    ),
    ({"name": "none"}, {"name": "stalls", "who": "all"}, "computation.who cannot be 'all'"),
    ({"name": "none"}, {"name": "trace", "path": "/nowhere"}, "no timeline was recorded there"),
]


@pytest.mark.parametrize(("network", "computation", "why"), REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence(
    network: dict[str, Any], computation: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why):
        check_clock(network, computation or {"name": "none"}, 8)
