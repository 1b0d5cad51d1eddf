"""What docs/from_ddp.md says holds for real workers, too; test_pages.py runs it in a world of one."""

from __future__ import annotations

import pytest

from tests.support.workers import run_workers
from tests.workers.from_ddp import follow_the_page


def test_the_page_is_so_with_four_workers() -> None:
    for found in run_workers(4, follow_the_page):
        assert found["world_size"] == 4
        assert found["distance"] > 0
        assert {"checkpoint", "model.pt"} <= set(found["files"])
        assert found["ema"] == pytest.approx(0, abs=1e-14)
        assert found["distances of two"] == pytest.approx([0] * 4, abs=1e-15)
        assert found["transport elsewhere"] == "p2p"
