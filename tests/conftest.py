"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tests compute with tiny tensors beside many worker processes: a second thread would only spin.
os.environ["OMP_NUM_THREADS"] = "1"

TOGETHER = ("slurm", "docs", "commands")
"""Folders whose tests share what takes long to make. Of the others, each file is by itself."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say what may run beside what (``pytest -n 2 --dist loadgroup``); SLURM comes first, whose tests wait most."""

    def group(item: pytest.Item) -> str:
        folder, *_ = item.path.relative_to(Path(__file__).parent).parts
        return folder if folder in TOGETHER else str(item.path)

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: group(item) != "slurm")
