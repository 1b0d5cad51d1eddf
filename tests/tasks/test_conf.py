"""The presets in conf/ are the registered choices, with their options and defaults."""

from __future__ import annotations

import dataclasses
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.config.coerce import coerce_options
from sgp_core.compression import COMPRESSIONS
from sgp_core.registry import Registry
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.losses import LOSSES
from sgp_core.tasks.models import MODELS
from sgp_core.tasks.partitions import PARTITIONS
from sgp_core.training.optimizers import OPTIMIZERS
from sgp_core.training.schedules import SCHEDULES

CONF = Path(__file__).parents[2] / "conf"
GROUPS: dict[str, Registry[Any]] = {
    "compression": COMPRESSIONS,
    "dataset": DATASETS,
    "loss": LOSSES,
    "model": MODELS,
    "optimizer": OPTIMIZERS,
    "partition": PARTITIONS,
    "schedule": SCHEDULES,
}
NEEDED = {
    ("optimizer", "torch"): {"class_name": "RMSprop"},
    ("schedule", "torch"): {"class_name": "CosineAnnealingLR"},
}
"""Options without which a choice is none."""
FILES = [(group, path.stem) for group in GROUPS for path in (CONF / group).glob("*.yaml")]
CHOICES = sorted((group, name) for group, name in FILES if name != "none")


def default(field: dataclasses.Field[Any]) -> Any:
    value = field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc]
    return value.value if isinstance(value, Enum) else value


@pytest.mark.parametrize("group", GROUPS)
def test_one_file_a_choice(group: str) -> None:
    assert [name for kind, name in CHOICES if kind == group] == GROUPS[group].names()


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_file_holds_every_option_with_its_default(group: str, name: str) -> None:
    written = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
    expected = {option: default(field) for option, field in GROUPS[group].options(name).items()}
    assert written == {"name": name, **expected}
    del written["name"]
    assert coerce_options(group, written, GROUPS[group].get(name)) == expected
    needed = NEEDED.get((group, name), {})
    GROUPS[group].build(name, **{**written, **needed})
