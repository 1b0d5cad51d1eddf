"""What every fault has: a verb in a registry, options, and the moments at which it strikes."""

from __future__ import annotations

import dataclasses
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sgp_core.errors import ConfigurationError
from sgp_core.registry import NOT_AN_OPTION, Registry
from sgp_core.validation import at_least, require

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from sgp_core.gossip import Gossip

RANDOM: Literal["random"] = "random"


class StepPlace(StrEnum):
    """Where in a step a fault strikes."""

    start = "start"
    """The batch is there; the forward pass comes."""
    backward = "backward"
    """The forward pass is over."""
    step = "step"
    """Gradients are there; the optimizer steps, and models are sent."""
    end = "end"
    """The step is over."""
    evaluation = "evaluation"
    """The first forward pass of an evaluation at, or after, the step."""
    checkpoint = "checkpoint"
    """A checkpoint at, or after, the step begins."""


@dataclass
class FaultTarget:
    """The worker that faults strike.

    Attributes:
        model, optimizers, gossip: the worker's.
        total_steps: steps of the whole run, from which ``step=random`` is drawn; None: not known.
        folder: of the run; None: there is none.
    """

    model: nn.Module
    optimizers: list[Optimizer]
    gossip: Gossip
    total_steps: int | None = None
    folder: Path | None = None

    @property
    def rank(self) -> int:
        """The worker's rank."""
        return self.gossip.rank

    @property
    def workers(self) -> int:
        """Number of workers."""
        return self.gossip.world_size


@dataclass(frozen=True)
class Moment:
    """When and where a fault strikes: a step, counted from 1, and a worker."""

    step: int
    target: FaultTarget


@dataclass(frozen=True, kw_only=True)
class Fault(ABC):  # noqa: B024 - a subclass overrides what it needs
    """What goes wrong. Stable extension point.

    A subclass is a dataclass registered in :data:`FAULTS` under its verb; its fields are its options. Where a word is
    reserved in Python, such as ``for``, the field is called ``for_``.
    """

    def check(self, workers: int) -> None:
        """Refuse options that do not go with the number of workers.

        Raises:
            ConfigurationError: with the option and what would be right.
        """

    @contextmanager
    def during(self, target: FaultTarget) -> Iterator[None]:
        """Strike for as long as training lasts, if this fault is of that kind."""
        yield

    @property
    def phrase(self) -> str:
        """The words that stand for this fault on a command line."""
        words = [FAULTS.name_of(type(self))]
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if value != entry.default and entry.metadata.get("option", True):
                words.append(f"{entry.name.rstrip('_')}={value}")
        return " ".join(words)


FAULTS: Registry[Fault] = Registry("fault", "sgp_core.faults")


@dataclass(frozen=True, kw_only=True)
class StepFault(Fault):
    """What goes wrong at certain steps.

    Args:
        rank: the worker that is struck, ``random``, or None: every worker.
        step: the step, counted from 1, or ``random``; 1 if neither this nor ``every`` is given.
        every: strike each time that so many steps are over.
        at: where in the step.
        seed: of what is random.
        of_attempt: whether steps are counted from the present start of the run, and struck again at the next.
    """

    rank: int | Literal["random"] | None = None
    step: int | Literal["random"] | None = None
    every: int | None = None
    at: StepPlace = StepPlace.start
    seed: int = 0
    of_attempt: bool = field(default=False, metadata=NOT_AN_OPTION)

    def __post_init__(self) -> None:
        name = FAULTS.name_of(type(self))
        if self.rank != RANDOM:
            at_least(0, f"{name}: rank", self.rank)
        if self.step != RANDOM:
            at_least(1, f"{name}: step", self.step)
        at_least(1, f"{name}: every", self.every)
        require(self.step is None or self.every is None, f"{name}: step", "left out beside every", self.step)

    def check(self, workers: int) -> None:
        """Refuse a rank that there is not."""
        if isinstance(self.rank, int) and self.rank >= workers:
            name = FAULTS.name_of(type(self))
            raise ConfigurationError(f"fault '{name}': rank={self.rank}: ranks are 0 to {workers - 1}")

    def strikes(self, step: int, target: FaultTarget) -> bool:
        """Whether this fault is due at this worker and step. Chance is a function of the seed, alike on all workers."""
        if self.every is not None:
            due = step % self.every == 0
        elif self.step == RANDOM:
            due = step == self._dice("step").randint(1, target.total_steps or 100)
        else:
            due = step == (self.step or 1)
        if not due:
            return False
        victim = self._dice(f"rank {step}").randrange(target.workers) if self.rank == RANDOM else self.rank
        return victim is None or victim == target.rank

    @abstractmethod
    def strike(self, moment: Moment) -> None:
        """Do what goes wrong, in the training thread."""

    def _dice(self, what: str) -> random.Random:
        return random.Random(f"{self.seed}/{FAULTS.name_of(type(self))}/{what}")


def option_names(verb: str) -> dict[str, dataclasses.Field[Any]]:
    """Return the options of a verb as users write them."""
    return {name.rstrip("_"): entry for name, entry in FAULTS.options(verb).items()}
