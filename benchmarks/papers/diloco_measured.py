"""Utilisation that github.com/Adnan082/diloco-measured (2026) measured on shaped links, by the virtual clock.

    python benchmarks/papers/diloco_measured.py

Four GPU machines train a language model of 30.8 million parameters of 4 bytes with DiLoCo; a link's rate is kept at 50
to 5,000 Mbit/s, and ``H`` steps lie between two averages. A step computes 26 ms, the median of the published records.
The published utilisation is the time computed over the time taken, of all steps after a few. Those are not always a
multiple of ``H``: the figures for H = 128 are of 180 steps with one average. The clock is therefore asked for as many
steps and averages as were counted; what follows from ``H`` itself is in the notes. Nothing is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import sgp_core
from comparison import Comparison, Findings, report
from sgp_core.algorithms import Algorithm, build_outer
from sgp_core.clock import NetworkModel, Prediction, build_computation, predict, traffic_of
from sgp_core.pacing import Pace, build_pace

SOURCE = "diloco-measured, utilisation of DiLoCo"
WORKERS = 4
PARAMETERS = 30_846_720
STEP_MS = 26.0
MBIT = (50, 200, 1000, 5000)
SMOOTH = (50, 100, 200, 500, 1000, 2000, 5000, 10000, 25000)


@dataclass(frozen=True)
class Cell:
    """One published figure.

    Attributes:
        utilisation: a share of one.
        steps: that were counted.
        averages: that were among them.
    """

    utilisation: float
    steps: int
    averages: int


PUBLISHED: dict[int, tuple[Cell, ...]] = {
    1: (Cell(0.0007, 10, 10), Cell(0.0032, 30, 30), Cell(0.0174, 90, 90), Cell(0.0776, 90, 90)),
    8: (Cell(0.0055, 72, 9), Cell(0.0248, 140, 17), Cell(0.1235, 140, 17), Cell(0.4024, 140, 17)),
    32: (Cell(0.0241, 140, 4), Cell(0.1001, 140, 4), Cell(0.3601, 140, 4), Cell(0.6810, 140, 4)),
    128: (Cell(0.1155, 180, 1), Cell(0.3609, 180, 1), Cell(0.7152, 180, 1), Cell(0.8700, 180, 1)),
}
"""By H, for each rate of ``MBIT``."""


def diloco(period: int) -> Algorithm:
    """Return DiLoCo with so many steps between averages."""
    return build_outer("diloco", sgp_core.build_algorithm("local_sgd", period=0), tau=period)


def cost(algorithm: Algorithm, mbit: float, pace: Pace | None = None) -> Prediction:
    """Return the clock's word on a step."""
    topology = sgp_core.build_topology("one_peer_exponential", world_size=WORKERS)
    traffic = traffic_of(algorithm, topology, model_bytes=4 * PARAMETERS, pace=pace)
    computation = build_computation({"name": "constant", "step_ms": STEP_MS})
    assert computation is not None
    return predict(NetworkModel(bandwidth_mbit=mbit), computation, traffic, WORKERS, steps=256)


def average_s(mbit: float) -> float:
    """Return what an average of all models takes, in seconds."""
    once = cost(diloco(1), mbit)
    return once.step_s - once.compute_s


def as_counted(cell: Cell, mbit: float) -> float:
    """Return the utilisation over the steps and averages of a published figure."""
    computed = cell.steps * STEP_MS / 1e3
    return computed / (computed + cell.averages * average_s(mbit))


def utilisation() -> dict[str, list[tuple[float, float]]]:
    """Return what rules reach over the rate of links, of which DiLoCo's is published."""
    rules = {
        "AllReduce": sgp_core.build_algorithm("allreduce"),
        "SGP": sgp_core.build_algorithm("sgp"),
        "OSGP": sgp_core.build_algorithm("osgp"),
        **{f"DiLoCo, H = {period}": diloco(period) for period in (8, 32, 128)},
    }
    curves = {name: [(float(mbit), cost(rule, mbit).utilisation) for mbit in SMOOTH] for name, rule in rules.items()}
    rare = build_pace("every", steps=32)
    return curves | {"OSGP, H = 32": [(float(mbit), cost(rules["OSGP"], mbit, rare).utilisation) for mbit in SMOOTH]}


def find() -> Findings:
    """Return everything."""
    found = Findings()
    for period, cells in PUBLISHED.items():
        for mbit, cell in zip(MBIT, cells, strict=True):
            what = f"H = {period}, {mbit} Mbit/s: share that computes, averages in {cell.steps} steps: {cell.averages}"
            found.rows.append(Comparison(what, as_counted(cell, mbit), cell.utilisation, SOURCE))
    found.curves["utilisation"] = utilisation()
    averages = ", ".join(f"{average_s(mbit):.3g}" for mbit in MBIT)
    exact = ", ".join(f"{mbit} Mbit/s {cost(diloco(128), mbit).utilisation:.1%}" for mbit in MBIT)
    found.notes.append(
        "An average of all models, which the published records give as 36 to 38, 8.3, 1.51 and .32 s after the first,"
        f" is {averages} s by the clock. So their links of 50 Mbit/s carried"
        " about 41. With one average in 128 steps rather than in 180, utilisation at H = 128 would be, by the clock:"
        f" {exact}."
    )
    return found


if __name__ == "__main__":
    report("diloco_measured", __doc__, find)
