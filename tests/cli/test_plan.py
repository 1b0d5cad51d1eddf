"""``sgp plan``: predicted steps, advice, and the winner's command line. No data are there, and no network is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.config.compose import compose
from launcher.config.make_plan import make_plans
from tests.support.sgp_command import Said

MLP = ("default", "model=mlp", "cluster.workers_per_node=4")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_network(**options: object) -> str:
    Path("net.yaml").write_text("\n".join(f"{key}: {value}" for key, value in options.items()))
    return "net.yaml"


def test_on_a_slow_network_gossip_is_advised(sgp: Callable[..., Said]) -> None:
    network = write_network(bandwidth_mbit=10, payload=1.0)
    said = sgp("plan", *MLP, "--network", network, "--step-ms", "10", "--json")
    [plan] = said.json["plans"]
    assert said.json["message_bytes"] == 4 * said.json["parameters"]
    message = 8 * said.json["message_bytes"] / 10e6
    by_label = {row["label"]: row for row in plan["candidates"]}
    assert by_label["allreduce"]["step_s"] == pytest.approx(0.01 + 1.5 * message, rel=1e-6)
    ddp = by_label["ddp"]
    assert (ddp["reference"], ddp["departure"], ddp["words"]) == (True, "none", [])
    assert ddp["step_s"] == pytest.approx(by_label["allreduce"]["step_s"], rel=1e-6), (
        "one bucket holds so small a model"
    )
    assert plan["baseline"]["label"] in ("allreduce", "ddp")
    assert plan["rule_of_thumb"]["ddp_s"] == pytest.approx(0.01 / 3 + 1.5 * message)
    assert by_label["sgp base_k"]["step_s"] == pytest.approx(0.01 + message, rel=1e-6)
    assert by_label["sgp base_k"]["spread"] == pytest.approx(0.5)
    assert (plan["rule_of_thumb"]["ring_s"], plan["rule_of_thumb"]["message_s"]) == pytest.approx(
        (1.5 * message, message)
    )
    winner = plan["winner"]
    assert winner["departure"] == "close"
    assert winner["step_s"] == min(row["step_s"] for row in plan["candidates"] if row["departure"] in ("none", "close"))
    [started] = make_plans(compose(plan["command"][1:]))
    assert started.experiment.algorithm["name"] in winner["words"][0]
    assert plan["fastest"]["step_s"] < winner["step_s"]


def test_where_messages_cost_nothing_it_says_allreduce_and_why(sgp: Callable[..., Said]) -> None:
    said = sgp("plan", *MLP, "--network", "infiniband_100g", "--step-ms", "100")
    assert (said.code, said.err) == (0, "")
    assert "run AllReduce: it waits for messages in" in said.out
    assert "  sgp-train model=mlp algorithm=allreduce cluster.workers_per_node=4" in said.out.replace(
        "model=mlp cluster.workers_per_node=4 algorithm=allreduce",
        "model=mlp algorithm=allreduce cluster.workers_per_node=4",
    )
    assert "rule of thumb: computation C = 100 ms" in said.out
    assert "beside torch's DDP, whose ring begins with backward, D = C/3 + max(2C/3, A) = 100 ms" in said.out


def test_the_guard_can_be_moved(sgp: Callable[..., Said]) -> None:
    network = write_network(bandwidth_mbit=1)
    far = sgp("plan", *MLP, "--network", network, "--step-ms", "1", "--most-spread", "100", "--json").json["plans"][0]
    near = sgp("plan", *MLP, "--network", network, "--step-ms", "1", "--most-spread", "0", "--json").json["plans"][0]
    assert far["winner"]["spread"] > 2
    assert near["winner"]["label"] == "allreduce"


def test_several_numbers_of_workers_and_a_picture(sgp: Callable[..., Said]) -> None:
    said = sgp("plan", *MLP, "--workers", "2,5", "--step-ms", "1", "--figure", "plan.svg")
    assert (said.code, said.err) == (0, "")
    assert "2 workers:" in said.out
    assert "cluster.workers_per_node=5" in said.out
    assert "cannot be here" in said.out, "a hypercube of five"
    assert "5 workers" in Path("plan.svg").read_text()


def test_network_and_computation_may_be_settings(sgp: Callable[..., Said]) -> None:
    words = ["network=ethernet_1g", "network.bandwidth_mbit=8", "network.payload=1.0", "computation=constant"]
    data = sgp("plan", *MLP, *words, "computation.step_ms=9", "--json").json
    assert data["assumed"] == ["network ethernet_1g", "computation constant"]
    assert data["plans"][0]["rule_of_thumb"]["compute_s"] == pytest.approx(0.009)
    assert data["network"]["bandwidth_mbit"] == 8


def test_a_calibration_is_read(sgp: Callable[..., Said]) -> None:
    content = {"network": {"bandwidth_mbit": 5.0}, "computation": {"name": "constant", "step_ms": 7.0}}
    Path("calibration.json").write_text(json.dumps(content))
    data = sgp("plan", *MLP, "--json").json
    assert data["assumed"] == ["network calibration.json", "computation of calibration.json"]
    assert data["plans"][0]["winner"]["compute_s"] == pytest.approx(0.007)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["imagenet_sgpp"], "experiment"),
        ([*MLP, "--network", "ethernet_10"], "--network ethernet_10: no such file or network"),
        ([*MLP, "--workers", "4,x"], "--workers 4,x: numbers of workers from 1 to 1024"),
        ([*MLP, "--step-ms", "3", "--device-tflops", "2"], "say the same; give one of them"),
        (["default", "seed=1,2"], "seed"),
        (["imagenet_sgp", "--workers", "12"], "nearest: 8 or 16"),
    ],
)
def test_mistakes_are_said_in_a_sentence(words: list[str], message: str, sgp: Callable[..., Said]) -> None:
    said = sgp("plan", *words)
    assert said.code == 2
    assert message in said.err
    assert len(said.err.strip().splitlines()) == 1


def test_virtual_workers_say_when_a_score_is_reached(sgp: Callable[..., Said]) -> None:
    words = ["default", "model=mlp", "cluster.workers_per_node=2", "training.max_steps=20", "evaluation.every_epochs=1"]
    words += ["training.batch_size=256", "log_every=20", "network=ethernet_1g", "network.bandwidth_mbit=1"]
    said = sgp("plan", *words, "--step-ms", "100", "--most-spread", "0", "--target", "0.3", "--json")
    assert said.code == 0, said.err
    [plan] = said.json["plans"]
    times = {row["label"]: row for row in plan["target"]}
    assert {"allreduce", "sgp one_peer_exponential", plan["fastest"]["label"]} <= set(times)
    for row in plan["candidates"]:
        reached = times.get(row["label"])
        if reached is not None and reached["step"] is not None:
            assert reached["best"] >= 0.3
            assert reached["seconds"] == pytest.approx(reached["step"] * row["step_s"], rel=0.2)
    assert times["allreduce"]["step"] is not None
    assert times["ddp"] == {**times["allreduce"], "label": "ddp"}, "one bucket holds so small a model"
    assert [path.name for path in Path("runs").iterdir()] == []
