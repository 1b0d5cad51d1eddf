"""What is looked at before every step: whether it is allowed, and whether the model is still the one exchanged."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from sgp_core.algorithms.base import Traits
from sgp_core.distributed.waits import Waits
from sgp_core.runtime.optimizers import parameters_of
from sgp_core.runtime.parameter_watch import ParameterWatch
from sgp_core.runtime.preconditions import check_not_wrapped, warn_of_plain_scaler
from sgp_core.tensors.flat_storage import FlatStorage

_EVALUATING = "optimizer.step() inside gossip.averaged(): the averaged model is for evaluation only"


class StepChecks:
    """Refuses steps that would not be exchanged as the user expects.

    Args:
        model: the user's.
        optimizers: those that ``Gossip`` was given.
        parameters: those that are exchanged.
        storage: where they lie; None where FSDP2 holds them.
        traits: the rule's.
        waits: where this worker waits for others.

    Attributes:
        watch: finds parameters that are not exchanged.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        parameters: Sequence[nn.Parameter],
        storage: FlatStorage | None,
        traits: Traits,
        waits: Waits,
    ) -> None:
        self.watch = ParameterWatch(model, optimizers, parameters)
        self._model = model
        self._optimizers = optimizers
        self._parameters = list(parameters)
        self._addresses = list(zip(storage.parameters, storage.addresses, strict=True)) if storage else []
        self._traits = traits
        self._waits = waits
        self._versions: list[int] = []
        self._evaluating = False
        self._first = True  # no step has begun

    def check(self) -> None:
        """Look at everything. Cheap: it grows with the number of parameters, not with their size.

        Raises:
            RuntimeError: with the reason, and what to do.
        """
        if self._evaluating:
            raise RuntimeError(_EVALUATING)
        watch = self.watch
        count = sum(len(group["params"]) for optimizer in self._optimizers for group in optimizer.param_groups)
        if watch.registered or count != watch.count:
            watch.inspect()
        for parameter in watch.frozen:
            if parameter.requires_grad:
                raise watch.unfrozen(parameter)
        for parameter, address in self._addresses:
            if parameter.data_ptr() != address:
                raise RuntimeError(
                    f"parameter '{self._name(parameter)}' was given other memory after Gossip was built; move or"
                    " convert the model before"
                )

    def check_unchanged(self) -> None:
        """Look whether a model that is being sent has stayed as it was.

        Raises:
            RuntimeError: naming the first parameter that has not, and what to do.
        """
        for parameter, version in zip(self._parameters, self._versions, strict=False):
            if parameter._version != version:
                raise RuntimeError(
                    f"parameter '{self._name(parameter)}' was changed between two steps, while it was being sent;"
                    " change it after gossip.finish() on all workers, or use order=adapt_then_combine"
                )

    def note_sent(self, *, travels: bool) -> None:
        """Note whether the model is being sent from now on, and must stay as it is until the next step."""
        self._versions = [parameter._version for parameter in self._parameters] if travels else []

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Allow no step inside the block, and any change of the model that is undone at its end.

        Raises:
            RuntimeError: one inside another, or the model was changed before.
        """
        if self._evaluating:
            raise RuntimeError("gossip.averaged() is already active")
        self.check_unchanged()
        self._evaluating = True
        try:
            yield
        finally:
            self._evaluating = False
            self.note_sent(travels=bool(self._versions))

    def check_surroundings(self) -> None:
        """Look once, at the first step, for what averages gradients besides, and for what may leave out a step."""
        if not self._first:
            return
        self._first = False
        if self._waits.alone:
            return
        check_not_wrapped(parameters_of(self._optimizers), self._waits.group)
        traits = self._traits
        if not traits.asynchronous and (traits.gossips or not traits.reads_gradients):  # else all overflow together
            warn_of_plain_scaler(self._optimizers[0])

    def _name(self, parameter: nn.Parameter) -> str:
        return next((name for name, one in self._model.named_parameters() if one is parameter), "?")


def calls_itself(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the step whose hooks are being called was called by a step of the same optimizer, that of a subclass.

    Torch calls hooks for either, provided that it has prepared both classes, so a step would be followed twice.
    """
    if sum(getattr(vars(kind).get("step"), "hooked", False) for kind in type(optimizer).__mro__) < 2:
        return False
    calls_hooks = type(optimizer).step.__code__  # one function of torch's, around the step of every class
    frame, found = sys._getframe(1), 0
    while frame.f_back is not None and found < 2:
        frame = frame.f_back
        found += frame.f_code is calls_hooks and frame.f_locals.get("self") is optimizer
    return found == 2
