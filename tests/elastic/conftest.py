"""A fleet of members for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.elastic.fleet import Fleet


@pytest.fixture
def make_fleet(tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    fleets: list[Fleet] = []

    def make(world_size: int, **options: object) -> Fleet:
        fleets.append(Fleet(tmp_path, world_size, **options))
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.close()
