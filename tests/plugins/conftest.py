"""Every test works in a directory of its own, and leaves no plug-in loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sgp_core.plugins import loaded_plugins, unload_plugin


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory; plug-ins that a test loads are unloaded."""
    monkeypatch.chdir(tmp_path)
    before = set(loaded_plugins())
    yield tmp_path
    for plugin in set(loaded_plugins()) - before:
        unload_plugin(plugin)
