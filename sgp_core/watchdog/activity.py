"""What a worker does, as it tells others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from sgp_core.distributed.phase_page import PhasePage
from sgp_core.distributed.positions import BACKWARD, STEP
from sgp_core.distributed.waits import Waits

_MEANINGS = {
    STEP: "optimizer.step(), sending and receiving models",
    BACKWARD: "backward(), averaging gradients",
    "averaged()": "averaged(), averaging models",
    "state_dict()": "state_dict(), receiving what is in flight",
}

_AFTER_STEPS = ("evaluation", "checkpoint")

START = "start"
"""The phase until there is a model to train; data may be downloaded, so it has no limit."""


def step_of(steps: int, phase: str) -> int:
    """Return the step, from 1, that a worker is in which has completed ``steps``."""
    return steps + (phase not in _AFTER_STEPS)


def meaning_of(place: str) -> str:
    """Return what a worker does that waits in a place."""
    return _MEANINGS.get(place, place)


@dataclass(frozen=True)
class Activity:
    """What a worker does.

    Attributes:
        phase: such as ``forward``, or the place in which it waits for others.
        waits: whether it waits for others.
        first: whether it does so for the first time since it was started.
        still_s: seconds for which it has done so, less those in which it waited for a processor.
        pid, host, page: its process, and the file of its :class:`PhasePage`.
    """

    phase: str
    waits: bool
    first: bool
    still_s: float
    pid: int
    host: str
    page: int

    def to_text(self) -> str:
        """Return this as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Activity | None:
        """Return what :meth:`to_text` made the text of; None: it is something else, such as an end."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None


class PhaseNotes:
    """What the training thread does: plain attributes, which cost it next to nothing.

    Attributes:
        phase: what it does where it does not wait for others.
        ticks: counts what goes on inside a phase.
        waits: of its Gossip; None until there is one.
        page: what of this others of the host can read, whatever happens to this process.
    """

    def __init__(self) -> None:
        self.phase = START
        self.ticks = 0
        self.waits: Waits | None = None
        self.page = PhasePage()
        self._before: set[str] = set()

    @contextmanager
    def follow(self, model: nn.Module, optimizers: list[Optimizer], waits: Waits) -> Iterator[None]:
        """Note, inside the block, what training does, by hooks on the model and its optimizers."""
        self.waits = waits
        hooks = [
            model.register_forward_pre_hook(lambda *_: self._come_to("forward" if model.training else "evaluation")),
            model.register_forward_hook(lambda *_: self._come_to("backward" if model.training else "evaluation")),
            *(part.register_forward_pre_hook(self._tick) for part in _ends(model)),
            optimizers[0].register_step_pre_hook(self._entering("optimizer step")),
            optimizers[-1].register_step_post_hook(self._entering("data loading")),
            optimizers[0].register_state_dict_pre_hook(self._entering("checkpoint")),
        ]
        self.phase = "data loading"
        waits.show(self.page)
        try:
            yield
        finally:
            waits.show(None)
            for hook in hooks:
                hook.remove()

    @property
    def step(self) -> int:
        """The step that the worker is in, or comes to next, from 1; of what comes after a step, that step."""
        return 1 if self.waits is None else step_of(self.waits.steps, self.phase)

    @property
    def first(self) -> bool:
        """Whether the worker does what it does for the first time since it was started: that compiles, fills caches."""
        return self.phase not in self._before

    def now(self) -> tuple[str, bool, object]:
        """Return the phase, whether it is a wait for others, and an object that changes when training goes on."""
        place = None if self.waits is None else self.waits.place
        if place is not None and place.name:
            return meaning_of(place.name), True, place
        return self.phase, False, (self.ticks, self.step)

    def _come_to(self, phase: str) -> None:
        if phase != self.phase:
            self._before.add(self.phase)
            self.phase = phase
        self.ticks += 1
        self.page.put_phase(0 if self.waits is None else self.waits.steps, phase)

    def _tick(self, *_: object) -> None:
        self.ticks += 1

    def _entering(self, phase: str) -> Callable[..., Any]:
        return lambda *_: self._come_to(phase)


def _ends(model: nn.Module) -> list[nn.Module]:
    """Return the first and the last part that has parameters: what generates calls one of them, not the model."""
    inside = (part for part in model.modules() if part is not model)
    parts = [part for part in inside if next(part.parameters(recurse=False), None) is not None]
    return [parts[0], parts[-1]] if parts else []
