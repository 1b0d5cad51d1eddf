"""How long workers compute in a step: one class for each model."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from sgp_core.bounds import between
from sgp_core.registry import NOT_AN_OPTION, Registry
from sgp_core.validation import one_of, require

COMPUTATIONS: Registry[ComputationModel] = Registry("computation", "sgp_core.clock")
"""Every model of computation by name."""

BACKWARD = 2.0 / 3.0
"""Share of a step's computation that backward is: it takes twice as long as forward."""
_TIME = between(0, 1e9)
_TIMES = between(1e-6, 1e6)


@dataclass(frozen=True)
class ComputationModel(ABC):
    """How long each worker computes in each step: forward, backward and the optimizer. Fields are its options.

    Stable extension point.
    """

    @abstractmethod
    def seconds(self, step: int, workers: int, seed: int) -> np.ndarray:
        """Return the time of each worker, float64 ``[workers]``: a pure function of its arguments."""

    @classmethod
    def from_options(cls, values: Mapping[str, Any]) -> ComputationModel:
        """Return the model of ``{"name": ..., options...}``, as a plan holds it.

        Raises:
            ConfigurationError: an unknown name or option, or a value out of range.
        """
        return COMPUTATIONS.build(values["name"], **{key: value for key, value in values.items() if key != "name"})

    def options(self) -> dict[str, Any]:
        """Return the plain data from which :meth:`from_options` makes the same model."""
        values: dict[str, Any] = {"name": COMPUTATIONS.name_of(type(self))}
        for entry in dataclasses.fields(self):
            if entry.metadata.get("option", True):
                value = getattr(self, entry.name)
                values[entry.name] = value.value if isinstance(value, Enum) else value
        return values


def build_computation(values: Mapping[str, Any]) -> ComputationModel | None:
    """Return the model of a choice ``{"name": ..., options...}``; None for the choice ``none``.

    Raises:
        ConfigurationError: an unknown name or option, or a value out of range.
    """
    return None if values.get("name") == "none" else ComputationModel.from_options(values)


def dice(seed: int, step: int) -> np.random.Generator:
    """Return the generator of a step: what is drawn depends on nothing that came before."""
    return np.random.default_rng((seed, step))


@COMPUTATIONS.register("constant")
@dataclass(frozen=True)
class ConstantComputation(ComputationModel):
    """Every step of every worker takes ``step_ms``."""

    step_ms: float = field(default=100.0, metadata=_TIME)

    def __post_init__(self) -> None:
        require(0 <= self.step_ms < math.inf, "computation.step_ms", "zero or more, and finite", self.step_ms)

    def seconds(self, step: int, workers: int, seed: int) -> np.ndarray:
        return np.full(workers, self.step_ms / 1e3)


@COMPUTATIONS.register("log_normal")
@dataclass(frozen=True)
class LogNormalComputation(ConstantComputation):
    """``step_ms`` in the median, times ``exp(sigma N)`` with N normal, for each worker and step independently."""

    sigma: float = field(default=0.1, metadata=between(0, 10))

    def seconds(self, step: int, workers: int, seed: int) -> np.ndarray:
        return super().seconds(step, workers, seed) * np.exp(self.sigma * dice(seed, step).standard_normal(workers))


@COMPUTATIONS.register("slow_worker")
@dataclass(frozen=True)
class SlowWorker(ConstantComputation):
    """One worker takes ``times`` as long in every step."""

    worker: int = field(default=0, metadata=between(0))
    times: float = field(default=4.0, metadata=_TIMES)

    def seconds(self, step: int, workers: int, seed: int) -> np.ndarray:
        seconds = super().seconds(step, workers, seed)
        require(self.worker < workers, "computation.worker", f"below the number of workers, {workers}", self.worker)
        seconds[self.worker] *= self.times
        return seconds


class Stalled(str, Enum):
    """Who stalls."""

    one = "one"
    """At most one worker in a step, any of them."""
    each = "each"
    """Each worker for itself."""


@COMPUTATIONS.register("stalls")
@dataclass(frozen=True)
class Stalls(ConstantComputation):
    """With ``probability`` a step takes ``times`` as long, for one worker drawn at random or for each by itself.

    ``slow_worker``, if there is one, takes ``slow_times`` as long in every step beside that.
    """

    probability: float = field(default=0.25, metadata=between(0, 1))
    times: float = field(default=5.0, metadata=_TIMES)
    who: Stalled = Stalled.one
    slow_worker: int | None = field(default=None, metadata=between(0))
    slow_times: float = field(default=4.0, metadata=_TIMES)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.probability <= 1, "computation.probability", "from 0 to 1", self.probability)
        object.__setattr__(self, "who", one_of(Stalled, "computation.who", self.who))

    def seconds(self, step: int, workers: int, seed: int) -> np.ndarray:
        seconds, drawn = super().seconds(step, workers, seed), dice(seed, step)
        if self.who is Stalled.one:
            stalls = np.zeros(workers, dtype=bool)
            stalls[drawn.integers(workers)] = drawn.random() < self.probability
        else:
            stalls = drawn.random(workers) < self.probability
        seconds[stalls] *= self.times
        if self.slow_worker is not None:
            wanted = f"below the number of workers, {workers}"
            require(self.slow_worker < workers, "computation.slow_worker", wanted, self.slow_worker)
            seconds[self.slow_worker] *= self.slow_times
        return seconds


@COMPUTATIONS.register("trace")
@dataclass(frozen=True)
class Trace(ComputationModel):
    """What a real run recorded with ``debug=timeline``: its steps over and over, worker by worker.

    With more workers than were recorded, worker i takes the times of worker ``i mod recorded``, one step further on.

    Args:
        path: of the run's folder, or of its folder ``timeline``.
        step_ms: what was recorded, ``[workers][steps]``; read from ``path`` if absent.
    """

    path: str | None = None
    step_ms: list[list[float]] | None = field(default=None, metadata=NOT_AN_OPTION)

    def __post_init__(self) -> None:
        if self.step_ms is None:
            from sgp_core.clock.recorded import read_durations

            require(self.path is not None, "computation.path", "the folder of a run with debug=timeline", self.path)
            object.__setattr__(self, "step_ms", read_durations(str(self.path)))

    def options(self) -> dict[str, Any]:
        """Return the plain data, what was recorded included, so that the folder is not needed again."""
        return {**super().options(), "step_ms": self.step_ms}

    def seconds(self, step: int, workers: int, seed: int) -> np.ndarray:
        rows = self.step_ms or [[0.0]]
        return np.array(
            [rows[i % len(rows)][(step + i // len(rows)) % len(rows[i % len(rows)])] / 1e3 for i in range(workers)]
        )
