"""Every file under conf/ composes, says what the code says, and is reachable by the name of its choice."""

from __future__ import annotations

import dataclasses
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher import conf
from launcher.config.choice import option_fields
from launcher.config.compose import compose
from launcher.config.launch_options import LaunchOptions
from launcher.config.make_plan import SECTIONS, RunSettings, make_plan, make_plans
from launcher.config.schema import CHOICES, LIBRARY_GROUPS, AlgorithmOptions, choices, options_class
from sgp_core.errors import ConfigurationError
from sgp_core.training.groups import CLOCK_GROUPS
from tests.support.command_line import composed

CONF = Path(conf.__path__[0])
GROUPS = [*LIBRARY_GROUPS, *CHOICES]
PRESETS = ["experiment", "debug"]
FILES = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml"))

TEXTS = ["libreoffice", "multi30k", "parallel_text", "verses", "wmt16"]
NEEDED = {
    ("dataset", "image_folder"): ["dataset.path=."],
    ("dataset", "imagenet"): ["dataset.path=."],
    **{("dataset", text): ["model=transformer"] for text in TEXTS},
    ("model", "transformer"): ["dataset=verses"],
    **{("dataset", text): ["model=gpt"] for text in ("linux_docs", "python_docs", "text", "tokens")},
    ("model", "gpt"): ["dataset=text"],
    ("dataset", "diabetes"): ["model=linear"],
    ("model", "linear"): ["dataset=diabetes"],
    ("optimizer", "torch"): ["optimizer.name=RMSprop"],
    ("schedule", "torch"): ["schedule.name=CosineAnnealingLR"],
    ("topology", "custom"): ["topology.path=graph.edgelist"],
    ("network", "file"): ["network.path=network.json"],
    ("computation", "trace"): ["computation.path=."],
    ("algorithm", "adpsgd"): ["topology=bipartite_exponential"],
    ("algorithm", "qg_dsgdm"): ["optimizer.momentum=0", "optimizer.nesterov=false"],
    ("algorithm", "decentlam"): ["topology=ring", "optimizer.momentum=0", "optimizer.nesterov=false"],
    ("algorithm", "d2"): ["topology=spanning_tree"],
    ("algorithm", "relaysgd"): ["topology=spanning_tree"],
}
"""What choices need beside themselves: an option, a model that fits, a topology of pairs, plain SGD, a tree."""


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def defaults(cls: type[Any]) -> dict[str, Any]:
    values = {}
    for name, entry in option_fields(cls).items():
        missing = entry.default is dataclasses.MISSING
        values[name] = entry.default_factory() if missing else plain(entry.default)  # type: ignore[misc]
    return values


@pytest.mark.parametrize(("group", "name"), [file for file in FILES if file[0] != "experiment"])  # test_presets.py
def test_every_choice_composes_into_a_plan(
    group: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "graph.edgelist").write_text("0 1\n1 2\n2 3\n3 0\n")
    (tmp_path / "picture.jpg").touch()
    (tmp_path / "network.json").write_text('{"network": {"bandwidth_mbit": 200}}')
    (tmp_path / "rank-0.json").write_text('{"traceEvents": [{"ph": "X", "tid": 0, "name": "step", "ts": 0, "dur": 9}]}')
    monkeypatch.setattr("sgp_core.tasks.datasets.Dataset.check", lambda self: None)
    for cls in (options_class("dataset", known) for known in choices("dataset")):
        monkeypatch.setattr(cls, "check", lambda self: None)
    workers = [] if (group, name) in {("cluster", "inline"), ("debug", "default")} else ["cluster.workers_per_node=4"]
    point = composed(f"{group}={name}", *workers, *NEEDED.get((group, name), []))
    plan = make_plan(point)
    assert point.choices[group] == name
    if group in LIBRARY_GROUPS:
        assert getattr(plan if group in CLOCK_GROUPS else plan.experiment, group)["name"] == name


@pytest.mark.parametrize("group", GROUPS)
def test_a_file_for_every_choice_and_a_choice_for_every_file(group: str) -> None:
    assert [name for folder, name in FILES if folder == group] == choices(group)


@pytest.mark.parametrize(("group", "name"), [file for file in FILES if file[0] in GROUPS])
def test_files_list_every_option_with_its_default(group: str, name: str) -> None:
    assert load(CONF / group / f"{name}.yaml") == {"name": name, **defaults(options_class(group, name))}


def test_config_lists_every_setting_with_its_default() -> None:
    config = load(CONF / "config.yaml")
    for name, cls in SECTIONS.items():
        assert config.pop(name) == defaults(cls), name
    assert config.pop("algorithm") == defaults(AlgorithmOptions)
    assert config.pop("defaults")
    assert config.pop("hydra")
    told = {**defaults(RunSettings), **defaults(LaunchOptions)}
    assert config == {key: value for key, value in told.items() if key not in GROUPS}  # groups have files of their own


def test_the_defaults_list_names_every_group() -> None:
    listed = [next(iter(entry)) for entry in load(CONF / "config.yaml")["defaults"] if isinstance(entry, dict)]
    assert [group for group in listed if not group.startswith("override")] == [*GROUPS, *PRESETS]


def test_later_choices_win_over_earlier_ones() -> None:
    [point] = compose(["experiment=smoke", "debug=default", "training.max_steps=7"])
    assert point.choices["cluster"] == "inline"
    assert point.settings["training"]["max_steps"] == 7
    assert point.settings["training"]["epochs"] == 2


NAMED = "name='${hydra:runtime.choices.topology} of ${topology.name}'"


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        (["experiment=smoke", "topology=ring", "seed=3", NAMED], 1),
        (["-m", "topology=glob(*ring)", "seed=range(1,3)", "experiment=smoke", NAMED], 6),
        (["tracker.tags=[a,b],[c]", "--multirun", "seed=7", "name=run-${hydra:job.num}", "+tracker.notes='x y'"], 2),
        (["-m", "seed=3"], 1),
    ],
)
def test_runs_are_composed_as_by_hydras_command_line(words: list[str], runs: int, tmp_path: Path) -> None:
    """It composes each of them twice; other flags take this longer way."""
    points = compose(words)
    assert points == compose(["--config-dir", str(tmp_path), *words])
    assert len(points) == runs


@pytest.mark.parametrize("order", [["seed=1,2", "-m", "log_every=3"], ["-m", "seed=1,2", "log_every=3"]])
def test_a_sweep_gives_a_plan_per_point(order: list[str]) -> None:
    plans = make_plans(compose(order))
    assert [plan.experiment.seed for plan in plans] == [1, 2]
    assert [plan.overrides for plan in plans] == [("seed=1", "log_every=3"), ("seed=2", "log_every=3")]


def test_points_that_are_the_same_experiment_are_one_run() -> None:
    assert len(make_plans(compose(["-m", "log_every=1,2,3"]))) == 1


def test_torchvision_models_go_by_their_own_names() -> None:
    [point] = compose(["model=torchvision", "model.name=resnet50"])
    model = make_plan(point).experiment.model
    assert (model["name"], model["architecture"]) == ("torchvision", "resnet50")


def test_plans_are_plain_data() -> None:
    import json

    [plan] = make_plans(compose(["outer=slowmo", "training.precision=bf16"]))
    spec = plan.spec()
    assert json.loads(json.dumps(spec)) == spec
    assert spec["metrics"]["score"] == "accuracy"
    assert {facts["name"]: facts["direction"] for facts in spec["metrics"]["scores"]}["loss"] == "minimize"
    assert spec["experiment"]["training"]["precision"] == "bf16"
    assert type(spec["experiment"]["training"]["precision"]) is str
    assert type(spec["experiment"]["outer"]["buffers"]) is str


def test_settings_of_earlier_versions_are_known_by_their_former_names() -> None:
    [point] = compose(["evaluation.translate=never", "cluster=inline"])
    assert make_plan(point).evaluation.generate == "never"
    point.settings["evaluation"]["translate"] = "always"  # as in a preset of a user's own
    assert make_plan(point).evaluation.generate == "always"


def test_lists_of_choices_are_checked_like_single_ones() -> None:
    plan = make_plan(composed("callbacks=[{name:early_stopping,patience:5}]", "evaluation.metrics=[calibration_error]"))
    assert plan.experiment.callbacks == [{"name": "early_stopping", "patience": 5, "min_delta": 0.0}]
    assert plan.evaluation.metrics == [{"name": "calibration_error", "bins": 15}]
    with pytest.raises(ConfigurationError, match=r"callback\.patience=few: expected a whole number"):
        make_plan(composed("callbacks=[{name:early_stopping,patience:few}]"))
    with pytest.raises(ConfigurationError, match="'calibration_error' is for the task 'images', not 'translation'"):
        make_plan(composed("dataset=verses", "model=transformer", "evaluation.metrics=[calibration_error]"))
