"""What real workers do in tests/integrations/test_lightning.py: this file imports without Lightning, for speed."""

from __future__ import annotations

from typing import Any

EPOCHS, HALF, BATCHES = 3, 1, 4
GOSSIPS: dict[str, dict[str, Any]] = {
    "sgp": {"algorithm": "sgp", "topology": {"name": "star", "weights": "uniform"}},  # PushSum weights other than 1
    "osgp": {"algorithm": "osgp", "topology": "ring", "outer": {"name": "slowmo", "tau": 3, "beta": 0.5}},
    "overlapped": {"algorithm": {"name": "osgp", "overlap_steps": 2}, "topology": "one_peer_exponential"},
}


def use_lightning(folder: str) -> dict[str, Any]:
    """Do all of it, in one start of four workers."""
    from tests.workers.lightning_scenarios import do_all

    return do_all(folder)
