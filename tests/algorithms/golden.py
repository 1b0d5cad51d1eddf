"""Golden trajectories: every algorithm and outer on one small problem, remembered number by number.

python -m tests.algorithms.golden sgp      # after an intended change: rewrite one, then read the difference
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

import sgp_core
from sgp_core.algorithms import ALGORITHMS, OUTERS, OneSided

FOLDER = Path(__file__).parent / "golden"
STEPS = 12
OTHER_ORDERS = ("dpsgd-awc", "gradient_tracking-awc", "osgp-atc")
"""Algorithms in the order that is not their default; the last is ``osgp`` as it was in version 0.1."""


def names() -> list[str]:
    """Every registered algorithm and outer, found by itself, and both orders of a step."""
    return [*ALGORITHMS.names(), *OUTERS.names(), *OTHER_ORDERS]


def trajectory(name: str) -> dict[str, Any]:
    """Five workers, three coordinates, shifted quadratics of unlike curvature, Nesterov momentum, a changing rate.

    Algorithms with a momentum of their own have plain SGD.
    """
    if name in OUTERS.names():
        algorithm = sgp_core.build_outer(name, sgp_core.build_algorithm("local_sgd", period=0), tau=4)
    else:
        name, _, order = name.partition("-")
        chosen = {"order": order} if order else {"period": 4} if "period" in ALGORITHMS.options(name) else {}
        algorithm = sgp_core.build_algorithm(name, **chosen)
    directed = {"weights": "uniform"} if algorithm.traits.sends_weight else {}  # irregular: weights leave 1
    topology = sgp_core.build_topology("star", world_size=5, **directed)
    if algorithm.traits.one_sided is OneSided.pairs:
        topology = sgp_core.build_topology("alternating_ring", world_size=5)
    momentum = {} if algorithm.traits.own_momentum else {"momentum": 0.9, "nesterov": True}
    curvature = torch.linspace(0.2, 1.0, 15, dtype=torch.float64).view(5, 3)
    target = torch.arange(15, dtype=torch.float64).view(5, 3).sin()
    run = sgp_core.simulate(
        algorithm,
        topology,
        torch.ones(5, 3, dtype=torch.float64),
        lambda z, step: curvature * (z - target),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.01, **momentum),
        lr=lambda step: 0.1 if step < 8 else 0.05,
        steps=STEPS,
    )
    return {"z": run.z.tolist(), "w": run.w.tolist()}


if __name__ == "__main__":
    for chosen in sys.argv[1:] or names():
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{chosen}.json").write_text(json.dumps(trajectory(chosen)) + "\n")
