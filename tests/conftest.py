"""What all tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgp_core.plugins import loaded_plugins, unload_plugin

# Tests compute with tiny tensors beside many worker processes: a second thread would only spin.
os.environ["OMP_NUM_THREADS"] = "1"

pytest_plugins = ("tests.support.launched", "tests.support.command_line", "tests.support.sgp_command")

FIRST = ("simulator", "runtime", "transports", "asynchronous", "benchmarks", "docs", "worker", "execution")
FIRST += ("training", "watchdog", "elastic", "plugins", "fuzz")
"""Folders whose files compute longest, the longest first: the last to run should be short, or a worker ends late."""


@pytest.fixture(autouse=True, scope="session")
def state_of_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the key that signs run folders out of the user's home."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(autouse=True)
def no_plugin_stays_loaded() -> Iterator[None]:
    """Unload the plug-ins that a test loads: their parts are no choices of the tests that follow."""
    before = set(loaded_plugins())
    yield
    for plugin in set(loaded_plugins()) - before:
        unload_plugin(plugin)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Take back the threads that a run inside this process has taken: one for each core, for the tests that follow."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files. Those of SLURM mostly wait: each has one that computes beside it (``-n 2``)."""
    root = Path(__file__).parent

    def rank(path: Path) -> int:
        folder = path.relative_to(root).parts[0]
        return FIRST.index(folder) if folder in FIRST else len(FIRST)

    files = list(dict.fromkeys(item.path for item in items))
    waiting = [path for path in files if path.is_relative_to(root / "slurm")]
    computing = sorted((path for path in files if path not in waiting), key=rank)
    pairs = [path for pair in zip(waiting, computing, strict=False) for path in pair]
    order = {path: place for place, path in enumerate(dict.fromkeys([*pairs, *waiting, *computing]))}
    items.sort(key=lambda item: order[item.path])
