"""The cells of the map, networks and stragglers, and what the virtual clock says of a rule in them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.config.run_plan import plan_of_spec
from sgp_core.clock import ComputationModel, NetworkModel, gradient_buckets, predict, traffic_of
from sgp_core.tasks.model_size import measure_model
from sgp_core.training.config import Experiment
from sgp_core.training.experiment import build_parts

MBIT = (50.0, 200.0, 1000.0, 5000.0)
DELAYS_MS = (0.0, 5.0, 50.0)
STRAGGLERS: dict[str, dict[str, Any]] = {
    "none": {"name": "constant"},
    "stalls": {"name": "stalls", "probability": 0.05, "times": 5.0, "who": "each"},
}
"""None; or one step in twenty of each worker takes five times as long."""


@dataclass(frozen=True)
class Cell:
    """A network and what slows its workers.

    Attributes:
        mbit: of every worker's link, each way.
        delay_ms: one way between two workers.
        stragglers: a key of ``STRAGGLERS``.
        thin_mbit: of the link between two regions; None: there are no regions.
    """

    mbit: float
    delay_ms: float
    stragglers: str
    thin_mbit: float | None = None

    @property
    def network(self) -> NetworkModel:
        """As the clock has it."""
        regions = None if self.thin_mbit is None else [{"bandwidth_mbit": self.thin_mbit}] * 2
        return NetworkModel(bandwidth_mbit=self.mbit, delay_ms=self.delay_ms, regions=regions)

    def computation(self, step_ms: float) -> ComputationModel:
        """Return what steps take, likewise."""
        return ComputationModel.from_options({**STRAGGLERS[self.stragglers], "step_ms": step_ms})

    def words(self, step_ms: float) -> tuple[str, ...]:
        """Return the settings of ``sgp-train`` that choose it."""
        computation = {**STRAGGLERS[self.stragglers], "step_ms": step_ms}
        return (
            "network=ethernet_1g",
            f"network.bandwidth_mbit={self.mbit}",
            f"network.delay_ms={self.delay_ms}",
            f"computation={computation.pop('name')}",
            *(f"computation.{key}={value}" for key, value in computation.items()),
        )

    def facts(self) -> dict[str, Any]:
        """Return what names it."""
        return {
            "mbit": self.mbit,
            "delay_ms": self.delay_ms,
            "stragglers": self.stragglers,
            **({} if self.thin_mbit is None else {"thin_mbit": self.thin_mbit}),
        }


CELLS = tuple(Cell(mbit, delay, who) for who, mbit, delay in itertools.product(STRAGGLERS, MBIT, DELAYS_MS))
REGIONS = Cell(1000.0, 0.0, "none", thin_mbit=50.0)


def experiment_of(spec: Mapping[str, Any]) -> Experiment:
    """Return the experiment that a run folder records."""
    return plan_of_spec(spec).experiment


def prediction(spec: Mapping[str, Any], cell: Cell, step_ms: float, *, ddp: bool = False) -> dict[str, Any]:
    """Return what a step of a run would cost in a cell.

    Args:
        ddp: gradients are averaged bucket by bucket while backward runs, as torch's DistributedDataParallel does.
    """
    experiment = experiment_of(spec)
    parts = build_parts(experiment)
    size = measure_model(parts.model, parts.dataset)
    buckets = gradient_buckets(size.layout) if ddp else ()
    traffic = traffic_of(
        parts.algorithm, parts.topology, model_bytes=size.bytes, pace=parts.pace, layout=size.layout, buckets=buckets
    )
    cost = predict(cell.network, cell.computation(step_ms), traffic, experiment.world_size, steps=256)
    return {
        "step_ms": cost.step_s * 1e3,
        "utilisation": cost.utilisation,
        "bytes_per_step": cost.wire_bytes,
        "busiest_link_bytes": cost.busiest_link_bytes,
    }
