"""Lets faults strike one worker, by hooks on its model and its optimizer."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgp_core.faults.base import Fault, FaultTarget, Moment, StepFault, StepPlace
from sgp_core.faults.phrases import parse_faults

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from sgp_core.gossip import Gossip


_LATER = (StepPlace.evaluation, StepPlace.checkpoint)
"""Places that not every step has: a fault strikes at the first of them after its step."""


class FaultInjector:
    """Lets faults strike this worker.

    ::

        with FaultInjector(["stall rank=1 step=20 seconds=5"]).attach(model, optimizer, gossip):
            ...  # the training loop

    Args:
        faults: phrases, or faults.
        folder: of the run. What strikes is recorded in ``faults.jsonl`` there, and strikes once, though the run be
            started again.

    Raises:
        ConfigurationError: a phrase is wrong.
    """

    def __init__(self, faults: Iterable[str | Fault], folder: Path | None = None) -> None:
        self.faults = parse_faults(faults)
        self._folder = folder

    @contextmanager
    def attach(
        self, model: nn.Module, optimizer: Optimizer | list[Optimizer], gossip: Gossip, total_steps: int | None = None
    ) -> Iterator[None]:
        """Strike inside the block, in the steps of ``gossip``.

        Args:
            total_steps: of the whole run, from which ``step=random`` is drawn.

        Raises:
            ConfigurationError: a fault does not go with the number of workers.
        """
        optimizers = optimizer if isinstance(optimizer, list) else [optimizer]
        target = FaultTarget(model, optimizers, gossip, total_steps, self._folder)
        for fault in self.faults:
            fault.check(target.workers)
        with ExitStack() as held:
            for fault in self.faults:
                held.enter_context(fault.during(target))
            steps = [(number, fault) for number, fault in enumerate(self.faults) if isinstance(fault, StepFault)]
            if steps:
                for hook in _StepHooks(steps, target, _StrikeRecord(self._folder)).register():
                    held.callback(hook.remove)
            yield


class _StepHooks:
    """Looks, where a step comes to a new place, which faults are due."""

    def __init__(self, faults: Sequence[tuple[int, StepFault]], target: FaultTarget, record: _StrikeRecord) -> None:
        self._faults = faults
        self._target = target
        self._record = record
        self._begin: int | None = None
        self._pending: dict[int, int] = {}  # of faults that wait for a place which not every step has: the step

    def register(self) -> list[Any]:
        """Hook into the model and the optimizers; return what removes that."""
        model, optimizers = self._target.model, self._target.optimizers
        return [
            model.register_forward_pre_hook(lambda *_: self._before_forward()),
            model.register_forward_hook(lambda *_: self._come_to(StepPlace.backward) if model.training else None),
            optimizers[0].register_step_pre_hook(lambda *_: self._come_to(StepPlace.step)),
            optimizers[-1].register_step_post_hook(lambda *_: self._end()),
            optimizers[0].register_state_dict_pre_hook(lambda *_: self._come_to(StepPlace.checkpoint)),
        ]

    def _before_forward(self) -> None:
        self._come_to(StepPlace.start if self._target.model.training else StepPlace.evaluation)

    def _end(self) -> None:
        self._come_to(StepPlace.end)

    def _come_to(self, place: StepPlace) -> None:
        over = place in (StepPlace.end, StepPlace.evaluation, StepPlace.checkpoint)
        done = self._target.gossip.step
        step = done if over else done + 1
        if self._begin is None:
            self._begin = done  # by now a checkpoint has been loaded
        for number, fault in self._faults:
            if fault.at is place or (place is StepPlace.end and fault.at in _LATER):
                self._consider(number, fault, step, place)

    def _consider(self, number: int, fault: StepFault, step: int, place: StepPlace) -> None:
        counted = step - (self._begin or 0) if fault.of_attempt else step
        due = fault.strikes(counted, self._target)
        if fault.at in _LATER:  # the first after the step that it is due at
            if place is StepPlace.end:
                if due:
                    self._pending[number] = step
                return
            step = self._pending.pop(number, 0)
            due = step > 0
        if due and (fault.of_attempt or self._record.note(number, fault, step, self._target.rank)):
            fault.strike(Moment(step, self._target))


class _StrikeRecord:
    """``faults.jsonl`` of a run: what has struck whom and when."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / "faults.jsonl"
        self._struck: set[tuple[int, int, int]] = set()
        if self._path is not None and self._path.exists():
            for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    row = json.loads(line)
                    self._struck.add((row["number"], row["step"], row["rank"]))
                except (ValueError, KeyError, TypeError):
                    continue  # torn, as its writer was killed

    def note(self, number: int, fault: Fault, step: int, rank: int) -> bool:
        """Record that a fault strikes; False if it has done so before."""
        key = (number, step, rank)
        if key in self._struck:
            return False
        self._struck.add(key)
        if self._path is not None:
            row = {"time": time.time(), "rank": rank, "step": step, "fault": fault.phrase, "number": number}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                os.write(file, f"{json.dumps(row)}\n".encode())
            finally:
                os.close(file)
        return True
