"""Golden trajectories of the codecs: five workers averaging with each, remembered number by number.

python -m tests.compression.golden int8      # after an intended change: rewrite one, then read the difference
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

import sgp_core
from sgp_core.compression import COMPRESSIONS

FOLDER = Path(__file__).parent / "golden"
STEPS = 6
SHAPES = [(5, 7), (7,)]


def trajectory(name: str) -> dict[str, Any]:
    """Average irregularly and learn a little, so that weights leave 1 and copies have something to follow."""
    start = torch.arange(5 * 42, dtype=torch.float64).view(5, 42).mul(0.7).sin()
    options = {"rank": 1} if name == "low_rank" else {"block_size": 8} if name in ("int8", "int4", "sign") else {}
    run = sgp_core.simulate(
        sgp_core.build_algorithm("sgp"),
        sgp_core.build_topology("star", world_size=5, weights="uniform"),
        start,
        lambda z, step: 0.1 * z.roll(1, 1),
        steps=STEPS,
        record_every=STEPS,
        compression=COMPRESSIONS.build(name, **options),
        shapes=SHAPES,
    )
    return {"z": run.z[-1].tolist(), "w": run.w[-1].tolist()}


if __name__ == "__main__":
    for chosen in sys.argv[1:] or COMPRESSIONS.names():
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{chosen}.json").write_text(json.dumps(trajectory(chosen)) + "\n")
