"""Messages are lost or late only where an algorithm can do with that, and where there are messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command_line import Said


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("algorithm=sgp",), "algorithm 'sgp' waits for every message of a step"),
        (("algorithm=adpsgd", "topology=alternating_ring"), "algorithm 'adpsgd' changes two models together"),
        (("algorithm=asgp", "cluster.transport=shared_memory"), "use transport=p2p for links with faults"),
    ],
)
def test_what_cannot_be_is_refused_before_workers_start(
    words: tuple[str, ...], hint: str, here: Path, sgp_train: Callable[..., Said]
) -> None:
    said = sgp_train(*words, "faults=[drop p=0.1]")
    assert said.code == 2
    assert hint in said.err
    assert "Traceback" not in said.err
    assert list(here.iterdir()) == []
