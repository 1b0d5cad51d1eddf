"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tests compute with tiny tensors beside many worker processes: a second thread would only spin.
os.environ["OMP_NUM_THREADS"] = "1"

pytest_plugins = ("tests.support.launched", "tests.support.command_line", "tests.support.sgp_command")

SLURM = Path(__file__).parent / "slurm"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with SLURM's tests, which wait most, so that the others run beside them (``pytest -n 2``)."""
    items.sort(key=lambda item: not item.path.is_relative_to(SLURM))
