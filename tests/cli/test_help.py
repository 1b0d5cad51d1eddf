"""``--help``: every choice and setting in a few words, a choice by itself; one source with the settings files."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path

import pytest

from launcher.cli.help import explain, overview
from launcher.config.choice import option_fields
from launcher.config.manual import PRESETS, Manual
from launcher.config.option_types import annotation, enum_of
from launcher.config.schema import SECTIONS, AlgorithmOptions, options_class
from tests.docs.pages import ROOT
from tests.support.launched import Said
from tests.support.plugins import PARTS

MANUAL = Manual()
GROUPS = [group for group in MANUAL.groups if group not in PRESETS]
CHOICES = [(group, name) for group in GROUPS for name in MANUAL.choices(group)]


def test_every_option_is_explained() -> None:
    options = [(f"{group}={name}", option) for group, name in CHOICES for option in MANUAL.options(group, name)]
    options += [(section, option) for section in MANUAL.sections for option in MANUAL.section_options(section)]
    assert [f"{where} {option.name}" for where, option in options if not option.words] == []


def test_every_choice_and_section_is_explained() -> None:
    said = {f"{group}={name}": MANUAL.summary(group, name) for group, name in CHOICES} | MANUAL.groups
    said |= {name: words for name, words in MANUAL.sections.items() if name}
    said |= {name: MANUAL.summary("experiment", name) for name in MANUAL.choices("experiment")}
    assert [name for name, words in said.items() if len(words) < 5] == []


def test_comments_name_every_value_of_an_enumeration() -> None:
    places = [(MANUAL.options(group, name), options_class(group, name)) for group, name in CHOICES]
    places += [(MANUAL.section_options(name), cls) for name, cls in SECTIONS.items()]
    places.append((MANUAL.section_options("algorithm"), AlgorithmOptions))
    unsaid = []
    for options, cls in places:
        for option in options:
            enum: type[Enum] | None = enum_of(annotation(cls, option.name))
            words = f"{option.words} {option.default}"
            unsaid += [f"{cls.__name__}.{option.name} {one.value}" for one in enum or () if str(one.value) not in words]
    assert unsaid == []


def test_the_overview_fits_a_terminal_and_leaves_nothing_out() -> None:
    text = overview(MANUAL)
    assert [line for line in text.splitlines() if len(line) > 80] == []
    for group in GROUPS:
        assert all(name in text for name in MANUAL.choices(group))
        assert all(f"  {option.name}=" in text for option in MANUAL.options(group, MANUAL.default(group)))
    for section in MANUAL.sections:
        assert all(f"  {option.name}=" in text for option in MANUAL.section_options(section))


def test_experiments_are_families() -> None:
    text = overview(MANUAL)
    assert "cifar10_... (20)" in text
    assert "smoke" in text
    assert "cifar10_sgp_slowmo" not in text
    assert "base" not in [word.strip(",") for word in text.partition("experiment  ")[2].splitlines()[0].split()]
    listed = explain("experiment", MANUAL)
    assert "cifar10_sgp_slowmo[_small]" in listed
    assert "base/" not in listed


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_can_be_explained(group: str, name: str) -> None:
    text = explain(f"{group}={name}", MANUAL)
    assert text.startswith(f"{group}={name}\n")
    assert all(f"  {option}=" in text for option in option_fields(options_class(group, name)))
    prose = [line for line in text.splitlines() if not line.startswith(6 * " ") and "=[" not in line]  # no formulas
    assert [line for line in prose if len(line) > 80] == []


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("algorithm=osgp", ["1-OSGP", "overlap_steps=1", "a whole number", "steps a message may take"]),
        ("outer=slowmo", ["reset | maintain | average", "slow momentum", "ICLR 2020"]),
        ("topology", ["one_peer_exponential", "ranks that differ in one bit"]),
        ("debug", ["debug=timeline", "fail_rank=null"]),
        ("training", ["epochs=10", "passes over the training set"]),
        ("training.epochs=3", ["epochs=10", "a whole number"]),
        ("optimizer.lr", ["optimizer=sgd", "base learning rate"]),
        ("outer.beta", ["outer=slowmo", "slow momentum"]),
        ("algorithm.unit", ["who gossips: worker | node"]),
        ("seed", ["decides initial parameters", "a whole number"]),
        ("callbacks", ["callbacks=[{name: early_stopping, ...}]", "patience="]),
        ("evaluation.metrics", ["calibration_error", "bins=15"]),
        ("rerun", ["failed (no others)"]),
        ("experiment=smoke", ["Does everything work?", "epochs: 2"]),
        ("experiment=cifar10_sgp", ["93.90 %", "override /algorithm: sgp"]),
        ("algorithm=sgp,dpsgd", ["algorithm=sgp\n", "algorithm=dpsgd\n"]),
    ],
)
def test_words_of_the_command_line_are_explained(topic: str, said: list[str]) -> None:
    text = explain(topic, MANUAL)
    assert [part for part in said if part not in text and part not in " ".join(text.split())] == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--help algorithm=osgd", "unknown algorithm 'osgd'; did you mean 'osgp'?"),
        ("--help optimizer.momentun", "did you mean 'optimizer.momentum'?"),
        ("--help learning_rate", "did you mean 'optimizer.lr'?"),
        ("-h experiment=cifar", "unknown experiment 'cifar'"),
    ],
)
def test_what_there_is_not_is_refused(line: str, message: str, sgp_train: Callable[..., Said]) -> None:
    said = sgp_train(*line.split())
    assert (said.code, said.out) == (2, "")
    assert message in said.err


def test_parts_of_ones_own_are_explained_like_ours(sgp_train: Callable[..., Said]) -> None:
    said = sgp_train("--help", f"plugins={PARTS}", "model=own_model")
    assert said.code == 0
    assert "activation=relu" in said.out or "activation=gelu" in said.out
    assert "own_model" in sgp_train("--help", f"plugins={PARTS}", "model").out


def test_settings_files_of_ones_own_are_explained(here: Path, sgp_train: Callable[..., Said]) -> None:
    (here / "mine" / "experiment").mkdir(parents=True)
    (here / "mine" / "experiment" / "long.yaml").write_text("# @package _global_\n# Twice as long.\nseed: 3\n")
    said = sgp_train("--help", "--config-dir", "mine", "experiment=long")
    assert "Twice as long." in said.out
    assert "seed: 3" in said.out


def test_the_reference_is_what_the_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "make_settings.py"), run_name="make_settings")
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == script["page"]()


def test_help_does_without_hydra_and_torch(tmp_path: Path) -> None:
    script = "import sys; sys.modules.update(torch=None, hydra=None); from launcher.cli.train import main; main(['-h'])"
    said = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")
    assert "passes over the training set" in said.stdout
