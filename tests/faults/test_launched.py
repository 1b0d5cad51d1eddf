"""``faults`` of a run: struck, recorded, and not struck again when the run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.support.launched import Said

QUICK = ("cluster=inline", "tracker=none", "training.epochs=1", "training.max_steps=6", "model.hidden=[4]")


def test_a_fault_strikes_once_in_a_run(here: Path, sgp_train: Callable[..., Said]) -> None:
    command = (*QUICK, "checkpoint.every_steps=2", "faults=[fail rank=0 step=4, stall every=3 seconds=0.01]")
    failed = sgp_train(*command)
    assert failed.code == 1
    assert "FailedOnPurpose: fail rank=0 step=4" in failed.err
    [spec] = here.glob("runs/*/spec.json")
    assert json.loads(spec.read_text())["faults"] == ["fail rank=0 step=4", "stall every=3 seconds=0.01"]
    assert sgp_train(*command).code == 0
    rows = [json.loads(line) for line in (spec.parent / "faults.jsonl").read_text().splitlines()]
    assert [(row["rank"], row["step"], row["fault"]) for row in rows] == [
        (0, 3, "stall every=3 seconds=0.01"),
        (0, 4, "fail rank=0 step=4"),
        (0, 6, "stall every=3 seconds=0.01"),
    ]
    assert sgp_train(*QUICK).code == 0, "faults are no part of what a run is"
    assert len(list(here.glob("runs/*/spec.json"))) == 1
