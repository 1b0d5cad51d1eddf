"""Registered parts are choices like ours: typed, completed, listed, refused with the nearest name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.config.compose import compose
from launcher.config.make_plan import make_plan, make_plans
from launcher.config.run_plan import RunPlan, plan_of_spec
from sgp_core.errors import ConfigurationError
from tests.support.launched import Said
from tests.support.plugins import CHOSEN, KINDS, PARTS

Train = Callable[..., Said]


@pytest.fixture
def parts(here: Path) -> Path:
    """A plug-in with a part of each kind in the current directory."""
    return Path(shutil.copy(PARTS, here / "parts.py"))


def plan(*words: str) -> RunPlan:
    [point] = compose(words)
    return make_plan(point)


def test_a_part_of_each_kind_can_be_chosen(parts: Path) -> None:
    made = plan("plugins=./parts.py", *CHOSEN, "dataset.noise=0.1", "pace=every")
    for kind in KINDS:
        assert getattr(made.experiment, kind)["name"] == (f"own_{kind}" if kind != "pace" else "every")
    assert made.experiment.model == {"name": "own_model", "widths": [8], "activation": "gelu"}
    assert [plugin.path for plugin in made.plugins] == [str(parts)]
    assert plan_of_spec(made.spec()) == made


def test_options_are_typed_and_swept_over(parts: Path) -> None:
    words = ["plugins=[./parts.py]", "algorithm=own_algorithm", "model=own_model", "model.activation=relu"]
    points = compose([*words, "model.widths=[3]", "-m", "algorithm.beta=0.9,1"])
    plans = make_plans(points)
    assert [made.experiment.algorithm["beta"] for made in plans] == [0.9, 1.0]
    assert plans[0].experiment.model == {"name": "own_model", "widths": [3], "activation": "relu"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["algorithm=own_algoritm"], "unknown algorithm 'own_algoritm'; did you mean 'own_algorithm'?"),
        (
            ["algorithm=own_algorithm", "algorithm.bta=1"],
            "unknown option 'algorithm.bta'; did you mean 'algorithm.beta'?",
        ),
        (["algorithm=own_algorithm", "algorithm.beta=much"], "algorithm.beta=much: expected a number"),
        (["model=own_model", "model.activation=tanh"], "model.activation=tanh: expected one of relu, gelu"),
        (["dataset=own_dataset"], "dataset.noise must be given: a number"),
        (["plugins=7"], "plugins=7: expected modules and files, as in plugins=[my_package,./my.py]"),
        (["plugins=[./parts.py,./prats.py]"], "plug-in ./prats.py: there is no such file; did you mean 'parts.py'?"),
        (["plugins=./parts.py,./parts.py"], "'plugins=./parts.py,./parts.py' has several values: add -m to run each"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_refused_as_ours_are(words: list[str], message: str, parts: Path, sgp_train: Train) -> None:
    given = words if words[0].startswith("plugins") else ["plugins=./parts.py", *words]
    said = sgp_train(*given)
    assert said.code == 2
    assert said.err.startswith(f"sgp-train: {message}")


def test_no_words_name_no_plugins() -> None:
    assert plan().plugins == ()


def test_without_the_plugin_its_parts_are_unknown_again(parts: Path) -> None:
    plan("plugins=./parts.py", "topology=own_topology")
    with pytest.raises(ConfigurationError, match="unknown topology 'own_topology'"):
        compose(["topology=own_topology"])


def test_help_lists_them(parts: Path, sgp_train: Train) -> None:
    said = sgp_train("plugins=./parts.py", "--help")
    assert "own_topology" in said.out
    assert "own_codec" in said.out


def test_the_shell_completes_them(parts: Path, monkeypatch: pytest.MonkeyPatch, sgp_train: Train) -> None:
    monkeypatch.setenv("COMP_LINE", "sgp-train plugins=./parts.py algorithm=own_algorithm algorithm.be")
    assert sgp_train("-sc", "query=bash").out.split() == ["algorithm.beta="]
    monkeypatch.setenv("COMP_LINE", "sgp-train plugins=./missing.py topology=hyp")
    assert sgp_train("-sc", "query=bash").out.split() == ["topology=hypercube"]


# -- experiments of one's own -----------------------------------------------------------------------------------------
def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def test_an_experiment_names_its_plugins(parts: Path) -> None:
    header = "# @package _global_\n"
    write("conf/experiment/base/own.yaml", f"{header}plugins: ./parts.py\n")
    write("conf/experiment/demo.yaml", f"{header}defaults:\n  - base/own\n  - override /topology: own_topology\n")
    made = plan("--config-dir", "conf", "experiment=demo", "topology.hops=3")
    assert made.experiment.topology == {"name": "own_topology", "hops": 3}
    assert [plugin.name for plugin in made.plugins] == ["./parts.py"]
    [ours] = make_plans(compose(["--config-dir=conf", "-m", "experiment=demo"]))
    assert ours.experiment.topology == {"name": "own_topology", "hops": 1}


def test_the_command_line_replaces_what_an_experiment_names(parts: Path) -> None:
    write("conf/experiment/demo.yaml", "# @package _global_\nplugins: [./missing.py]\n")
    made = plan("--config-dir", "conf", "experiment=demo", "plugins=[parts.py]")
    assert [plugin.name for plugin in made.plugins] == ["parts.py"]
    assert plan("--config-dir", "conf", "experiment=demo", "plugins=[]").plugins == ()


def test_a_file_of_a_group_comes_before_the_options_and_may_build_on_them(parts: Path) -> None:
    write("conf/algorithm/own_algorithm.yaml", "name: own_algorithm\nbeta: 0.25\noverlap_steps: 0\n")
    write("conf/topology/far.yaml", "defaults: [own_topology, _self_]\nhops: 2\n")
    made = plan("--config-dir", "conf", "plugins=./parts.py", "algorithm=own_algorithm", "topology=far")
    assert made.experiment.algorithm["beta"] == 0.25
    assert made.experiment.topology == {"name": "own_topology", "hops": 2}


# -- identity ---------------------------------------------------------------------------------------------------------
def test_the_id_follows_the_code_only_if_asked(parts: Path) -> None:
    words = ["plugins=./parts.py", "topology=own_topology"]
    by_settings, by_code = plan(*words), plan(*words, "identity=code")
    assert by_code.run_id != by_settings.run_id
    parts.write_text(parts.read_text() + "\n# another version\n")
    assert plan(*words).run_id == by_settings.run_id
    changed = plan(*words, "identity=code")
    assert changed.run_id not in (by_code.run_id, by_settings.run_id)
    assert plan_of_spec(changed.spec()) == changed
    assert plan("topology=ring").run_id == plan("topology=ring", "plugins=./parts.py").run_id
    assert plan("topology=ring", "identity=code", "plugins=[]").identity == "code"
