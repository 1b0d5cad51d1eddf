"""Schedules of torch, by their names there."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from sgp_core.errors import ConfigurationError
from sgp_core.registry import NOT_AN_OPTION, VALUES
from sgp_core.training.optimizers.eager import eager
from sgp_core.training.schedules.base import SCHEDULES, LearningRateSchedule
from sgp_core.training.torch_choices import CLASS, check_complete, complete, find_class, parameters_of
from sgp_core.validation import one_of

_NO_FUNCTION = "its options are functions or other schedules, which settings cannot hold"
_UNFIT = {
    "LRScheduler": "it is the base of the others",
    "LambdaLR": _NO_FUNCTION,
    "MultiplicativeLR": _NO_FUNCTION,
    "SequentialLR": _NO_FUNCTION,
    "ChainedScheduler": _NO_FUNCTION,
    "ReduceLROnPlateau": "it is no function of the step: a resumed run would have to remember it",
    "ConstantLR": "use schedule=constant, or LinearLR",
    "SWALR": "it is for averaged weights",
}
_APART = ("last_epoch", "verbose", "scale_fn", "scale_mode", "cycle_momentum", "base_momentum", "max_momentum")
"""Options that are no numbers, or about the optimizer's momentum, which schedules here leave alone."""
_LENGTH = {"OneCycleLR": "total_steps", "CosineAnnealingLR": "T_max"}
"""The option that is the length of the run, unless it is given."""
_OTHER_LENGTHS = ("epochs", "steps_per_epoch")
_BY_STEP = ("OneCycleLR", "CyclicLR")
"""Those that count steps, where the others count epochs, if nothing is said."""


class Unit(StrEnum):
    """What a schedule of torch counts."""

    epoch = "epoch"
    step = "step"


@SCHEDULES.register("torch")
@dataclass(frozen=True)
class TorchSchedule(LearningRateSchedule):
    """A schedule of ``torch.optim.lr_scheduler``: ``schedule=torch schedule.name=StepLR schedule.step_size=30``.

    The options are those of the constructor of that class; null stands for torch's default. The learning rates are
    those that torch computes, replayed from the first step, so that there is no state to save.
    """

    class_name: str | None = field(default=None, metadata={VALUES: lambda: sorted({*_schedules()} - {*_UNFIT})})
    """Torch's name of the schedule; ``schedule.name=...`` may be used instead."""
    per: Unit | None = None
    """What it counts: epochs or steps; null: steps for OneCycleLR and CyclicLR, else epochs."""
    T_0: int | None = None
    """CosineAnnealingWarmRestarts."""
    T_max: int | None = None
    """CosineAnnealingLR; null: the length of the run."""
    T_mult: int | None = None
    """CosineAnnealingWarmRestarts."""
    anneal_strategy: str | None = None
    """OneCycleLR: cos or linear."""
    base_lr: float | None = None
    """CyclicLR: the lowest learning rate."""
    div_factor: float | None = None
    """OneCycleLR."""
    end_factor: float | None = None
    """LinearLR."""
    eta_min: float | None = None
    """CosineAnnealingLR, CosineAnnealingWarmRestarts: the lowest learning rate."""
    final_div_factor: float | None = None
    """OneCycleLR."""
    gamma: float | None = None
    """StepLR, MultiStepLR, ExponentialLR, CyclicLR."""
    max_lr: float | None = None
    """OneCycleLR, CyclicLR: the highest learning rate."""
    milestones: list[int] | None = None
    """MultiStepLR."""
    mode: str | None = None
    """CyclicLR: triangular, triangular2 or exp_range."""
    pct_start: float | None = None
    """OneCycleLR."""
    power: float | None = None
    """PolynomialLR."""
    start_factor: float | None = None
    """LinearLR."""
    step_size: int | None = None
    """StepLR."""
    step_size_down: int | None = None
    """CyclicLR."""
    step_size_up: int | None = None
    """CyclicLR."""
    three_phase: bool | None = None
    """OneCycleLR."""
    total_iters: int | None = None
    """LinearLR, PolynomialLR."""
    total_steps: int | None = None
    """OneCycleLR; null: the length of the run."""
    rate: float = field(default=1.0, metadata=NOT_AN_OPTION)
    """The base learning rate."""

    def __post_init__(self) -> None:
        if self.per is not None:
            one_of(Unit, "schedule.per", self.per)
        complete("schedule", self._class, _options(self._class), self._given(1))
        check_complete("schedule", self._class, _options(self._class), self._given(1))
        self._replay(100)

    @classmethod
    def resolve_choice(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Accept ``schedule.name=StepLR`` for ``schedule.class_name=StepLR``, and fill in torch's defaults."""
        own = SCHEDULES.name_of(cls)
        name = values.get(CLASS) if values["name"] == own else values["name"]
        chosen = find_class("schedule", name, _schedules(), _UNFIT)
        given = {option: value for option, value in values.items() if option not in ("name", CLASS, "per")}
        length = _LENGTH.get(chosen.__name__)
        stand_in = {length: 1} if length is not None and given.get(length) is None else {}
        options = complete("schedule", chosen, _options(chosen), {**given, **stand_in})
        per = values.get("per") or (Unit.step if chosen.__name__ in _BY_STEP else Unit.epoch)
        filled = {option: value for option, value in options.items() if option not in stand_in}
        return {"name": own, CLASS: chosen.__name__, "per": str(per), **filled}

    def with_rate(self, rate: float) -> TorchSchedule:
        """Return the schedule for a base learning rate: torch's options are learning rates, not factors."""
        return dataclasses.replace(self, rate=rate)

    def factor(self, step: int, steps_per_epoch: int, total_steps: int, world_size: int) -> float:
        """Return torch's learning rate at ``step``, divided by the base learning rate."""
        by_step = self.per == Unit.step or (self.per is None and self.class_name in _BY_STEP)
        unit = 1 if by_step else steps_per_epoch
        return self._replay(-(-total_steps // unit)).at(step // unit) / self.rate

    @property
    def _class(self) -> type[Any]:
        return find_class("schedule", self.class_name, _schedules(), _UNFIT)

    def _given(self, length: int) -> dict[str, Any]:
        """Return the options that are not torch's defaults, for a run of so many units."""
        apart = (CLASS, "per", "rate")
        values = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        given = {name: value for name, value in values.items() if name not in apart and value is not None}
        option = _LENGTH.get(self._class.__name__)
        return {option: length, **given} if option is not None else given

    def _replay(self, length: int) -> _Replay:
        cls: Any = self._class
        options = json.dumps(self._given(length), sort_keys=True)
        try:
            return _remembered(cls, options, self.rate)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"schedule=torch: {self.class_name} refuses its options: {error}") from error


class _Replay:
    """The learning rates of one of torch's schedules, as far as they have been asked for."""

    def __init__(self, cls: type[Any], options: Mapping[str, Any], rate: float) -> None:
        import torch

        self._optimizer = eager(torch.optim.SGD)([torch.zeros(1)], lr=rate)
        self._schedule = cls(self._optimizer, **options)
        self._rates = [float(self._optimizer.param_groups[0]["lr"])]

    def at(self, unit: int) -> float:
        """Return the learning rate after so many units."""
        while len(self._rates) <= unit:
            self._optimizer.step()  # of no gradient; the schedule wants it called first
            self._schedule.step()
            self._rates.append(float(self._optimizer.param_groups[0]["lr"]))
        return self._rates[unit]


@lru_cache(maxsize=8)
def _remembered(cls: type[Any], options: str, rate: float) -> _Replay:
    momentum = {"cycle_momentum": False} if cls.__name__ in _BY_STEP else {}
    return _Replay(cls, {**json.loads(options), **momentum}, rate)


def _schedules() -> dict[str, type[Any]]:
    from torch.optim import lr_scheduler

    classes = {name: cls for name, cls in vars(lr_scheduler).items() if isinstance(cls, type)}
    return {
        name: cls
        for name, cls in classes.items()
        if issubclass(cls, lr_scheduler.LRScheduler) and not name.startswith("_")
    }


def _options(cls: type[Any]) -> dict[str, Any]:
    return parameters_of(cls, (*_APART, *_OTHER_LENGTHS))
