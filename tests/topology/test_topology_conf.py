"""The presets in conf/topology are the registered topologies, with their options and defaults."""

from __future__ import annotations

import dataclasses
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.config.coerce import coerce_options
from sgp_core.topology import TOPOLOGIES

FOLDER = Path(__file__).parents[2] / "conf" / "topology"


def default(field: dataclasses.Field[Any]) -> Any:
    value = field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc]
    return value.value if isinstance(value, Enum) else value


def test_one_file_a_topology() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == TOPOLOGIES.names()


@pytest.mark.parametrize("name", TOPOLOGIES.names())
def test_file_holds_every_option_with_its_default(name: str) -> None:
    written = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    expected = {option: default(field) for option, field in TOPOLOGIES.options(name).items()}
    assert written == {"name": name, **expected}
    del written["name"]
    assert coerce_options("topology", written, TOPOLOGIES.get(name)) == expected
