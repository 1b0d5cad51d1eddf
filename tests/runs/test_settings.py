"""Settings by their names on the command line, and those that differ."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.runs.settings import Condition, all_settings, changed_keys, experiment_settings, nearest
from sgp_core.errors import ConfigurationError

SPEC: dict[str, Any] = {
    "experiment": {
        "algorithm": {"name": "sgp"},
        "optimizer": {"name": "sgd", "lr": 0.05, "nesterov": True},
        "seed": 1,
        "world_size": 4,
    },
    "evaluation": {"every_epochs": 1},
    "cluster": {"name": "slurm", "nodes": 2},
}


def test_a_choice_stands_for_its_name() -> None:
    assert experiment_settings(SPEC) == {
        "algorithm": "sgp",
        "algorithm.unit": "worker",
        "optimizer": "sgd",
        "optimizer.lr": 0.05,
        "optimizer.nesterov": True,
        "seed": 1,
        "workers": 4,
        "evaluation.every_epochs": 1,
    }
    assert all_settings(SPEC).items() >= {"cluster": "slurm", "cluster.nodes": 2}.items()


def test_runs_of_workers_and_of_nodes_differ_in_the_unit() -> None:
    nodes = {**SPEC, "experiment": {**SPEC["experiment"], "node_size": 2}}
    assert experiment_settings(nodes)["algorithm.unit"] == "node"
    assert changed_keys([experiment_settings(spec) for spec in (SPEC, nodes)]) == ["algorithm.unit"]


def test_runs_that_start_from_others_differ_from_those_that_do_not() -> None:
    plain = {"algorithm": {"name": "sgp"}, "model": {"name": "mlp"}}
    weights = {**plain, "model": {"name": "mlp", "weights": "/a.pt", "weights_sha256": "12"}}
    extended = {**plain, "extends": {"run": "7c424a4089", "step": 6}}
    runs = [experiment_settings({"experiment": each}) for each in (plain, weights, extended)]
    assert changed_keys(runs) == ["model.weights", "extends"]
    assert runs[2]["extends"] == "7c424a4089 at step 6"
    assert changed_keys([runs[1], runs[1]]) == []


@pytest.mark.parametrize("spec", [{}, {"experiment": 3}, {"experiment": {"model": [1], "seed": None}}])
def test_damaged_specs_have_fewer_settings(spec: dict[str, Any]) -> None:
    assert set(all_settings(spec)) <= {"model"}


def test_what_differs_is_told_and_the_seed_comes_last() -> None:
    runs = [
        {"seed": 1, "algorithm": "sgp", "optimizer": "sgd", "optimizer.lr": 0.1},
        {"seed": 2, "algorithm": "dpsgd", "optimizer": "sgd", "optimizer.lr": 0.1},
    ]
    assert changed_keys(runs) == ["algorithm", "seed"]
    assert changed_keys(runs[:1]) == []
    assert changed_keys([]) == []


def test_what_follows_from_another_choice_is_not_told() -> None:
    runs = [
        {"optimizer": "sgd", "optimizer.lr": 0.1, "optimizer.momentum": 0.9},
        {"optimizer": "adamw", "optimizer.lr": 0.001},
    ]
    assert changed_keys(runs) == ["optimizer"]
    assert changed_keys([*runs, {"optimizer": "sgd", "optimizer.lr": 0.2, "optimizer.momentum": 0.9}]) == [
        "optimizer",
        "optimizer.lr",
    ]


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("algorithm=sgp", True),
        ("algorithm=dpsgd", False),
        ("algorithm=dpsgd,sgp", True),
        ("algorithm!=sgp", False),
        ("algorithm!=dpsgd,allreduce", True),
        ("optimizer.lr=0.05", True),
        ("optimizer.lr=5e-2", True),
        ("optimizer.nesterov=true", True),
        ("optimizer.nesterov=1", False),
        ("seed=1.0", True),
        ("workers=4", True),
        ("world_size=4", True),
        ("outer=none", False),
        ("outer!=slowmo", False),  # it has no such setting
    ],
)
def test_conditions(condition: str, holds: bool) -> None:
    assert Condition(condition).holds(all_settings(SPEC)) == holds


def test_what_is_no_condition_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="--where sgp: a condition is key=value"):
        Condition("sgp")
    with pytest.raises(ConfigurationError, match=r"--where lr: no run has such a setting; did you mean 'optimizer.lr'"):
        Condition("lr=1").check(all_settings(SPEC))
    with pytest.raises(ConfigurationError, match=r"such a setting$"):
        Condition("zzz=1").check(all_settings(SPEC))


def test_the_nearest_name() -> None:
    assert nearest("algoritm", ["algorithm", "seed"]) == "; did you mean 'algorithm'?"
