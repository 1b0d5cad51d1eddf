"""``tracker=[a,b]``: several trackers in one section, and in ``spec.json``."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest

from launcher.config.choice import option_fields
from launcher.config.compose import compose
from launcher.config.make_plan import make_plan
from launcher.config.run_plan import RunPlan, plan_of_spec
from launcher.config.schema import CHOICES
from launcher.config.trackers import tracker_in_spec, trackers_in_spec
from launcher.runs.settings import all_settings
from launcher.runs.sweep import as_sweep
from sgp_core.errors import ConfigurationError


def plan(*words: str) -> RunPlan:
    [point] = compose(words)
    return make_plan(point)


def spec(*words: str) -> dict[str, Any]:
    """Return ``spec.json`` as it is read back."""
    planned = plan(*words)
    read: dict[str, Any] = json.loads(json.dumps(planned.spec()))
    assert plan_of_spec(read) == planned
    return read


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["wandb"]),
        (["tracker=tensorboard"], ["tensorboard"]),
        (["tracker=[mlflow]"], ["mlflow"]),
        (["tracker=[mlflow,wandb,tensorboard]"], ["mlflow", "wandb", "tensorboard"]),
        (["tracker=none"], []),
        (["tracker=[]"], []),
    ],
)
def test_any_number_of_trackers_is_recorded(words: list[str], names: list[str]) -> None:
    read = spec(*words)
    assert [one["name"] for one in trackers_in_spec(read)] == names
    assert read["run_id"] == plan().run_id
    if len(names) < 2:  # as every earlier version has written and read it
        assert read["tracker"]["name"] == (names or ["none"])[0]


def test_an_option_is_set_for_all_trackers_that_have_it_whatever_their_order() -> None:
    options = ("tracker.project=mine", "tracker.finish_timeout_s=3", "tracker.tags=[a]", "tracker.uri=http://h")
    one, other = spec("tracker=[wandb,mlflow]", *options), spec("tracker=[mlflow,wandb]", *options)
    for read in (one, other):
        wandb, mlflow = tracker_in_spec(read, "wandb"), tracker_in_spec(read, "mlflow")
        assert wandb is not None
        assert mlflow is not None
        assert (wandb["project"], wandb["finish_timeout_s"], wandb["tags"]) == ("mine", 3, ["a"])
        assert (mlflow["project"], mlflow["finish_timeout_s"], mlflow["uri"]) == ("mine", 3, "http://h")
        assert "uri" not in wandb
    assert all_settings(one)["tracker"] == ["wandb", "mlflow"]
    assert all_settings(one)["tracker.uri"] == "http://h"


def test_options_of_one_name_have_one_default() -> None:
    defaults: dict[str, Any] = {}
    for cls in CHOICES["tracker"].values():
        for name in option_fields(cls):
            assert defaults.setdefault(name, getattr(cls(), name)) == getattr(cls(), name)


def test_a_list_is_one_value_of_a_sweep() -> None:
    points = compose(["-m", "tracker=none,[tensorboard,mlflow]", "seed=1,2"])
    plans = [make_plan(point) for point in points]
    assert [[one.name for one in planned.trackers] for planned in plans] == [[], [], *[["tensorboard", "mlflow"]] * 2]


def test_a_sweep_is_the_group_of_wandb_beside_others() -> None:
    [planned] = as_sweep([plan("tracker=[tensorboard,wandb]")])
    assert (tracker_in_spec(planned.spec(), "wandb") or {})["group"] == planned.sweep


@pytest.mark.parametrize("damaged", [None, 3, "wandb", [3], {"mode": "online"}, [{"name": "none"}]])
def test_a_damaged_spec_has_no_trackers(damaged: Any) -> None:
    assert trackers_in_spec({"tracker": damaged}) == []


def test_a_tracker_that_is_not_installed_is_refused_with_the_command_that_installs_it(monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "mlflow" else find(name, *more)
    )
    with pytest.raises(ConfigurationError, match=r"tracker=mlflow needs mlflow: pip install '.*\[mlflow\]'"):
        plan("tracker=[wandb,mlflow]")
