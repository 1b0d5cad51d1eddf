"""Finds what has changed in a model or its optimizers since ``Gossip`` was built, and would not be exchanged."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from sgp_core.distributed.model_shard import is_sharded
from sgp_core.runtime.global_hooks import add_global_hook
from sgp_core.runtime.optimizers import parameters_of

_ANEW = "gossip.close(), then build Gossip anew"


class ParameterWatch:
    """Knows the parameters that are exchanged, and finds others that an optimizer steps over in their place.

    A step needs to look at ``registered``, ``count`` and ``frozen`` alone: modules tell where they register parameters.

    Args:
        model: the user's.
        optimizers: those that ``Gossip`` was given.
        parameters: those that are exchanged.

    Attributes:
        registered: whether any module has registered a parameter or a module since the last inspection.
        count: how many parameters the optimizers had then.
        frozen: those of them that need no gradient.
    """

    def __init__(
        self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], parameters: Sequence[nn.Parameter]
    ) -> None:
        self._model = model
        self._optimizers = list(optimizers)
        self._exchanged = {id(each): each for each in parameters}
        self._names = {name: each for name, each in model.named_parameters() if id(each) in self._exchanged}
        in_groups = parameters_of(self._optimizers)
        self._at_first = {id(each): each for each in in_groups if each.requires_grad}  # stretches of a shard among them
        self.frozen = [each for each in in_groups if not each.requires_grad]
        self.count = len(in_groups)
        self.registered = False
        self._others: weakref.WeakKeyDictionary[torch.optim.Optimizer, int] = weakref.WeakKeyDictionary()
        me = weakref.ref(self)  # a hook on all modules must not keep this model alive

        def note(*_: object) -> None:
            if (watch := me()) is not None:
                watch.registered = True

        self._handles = [
            add_global_hook(self, register, note)
            for register in (register_module_parameter_registration_hook, register_module_module_registration_hook)
        ]

    def close(self) -> None:
        """Notice nothing from now on."""
        for handle in self._handles:
            handle.remove()

    def inspect(self) -> None:
        """Refuse parameters that are not exchanged, in the model or in the optimizers.

        Raises:
            RuntimeError: naming the first of them, and what to do.
        """
        self._inspect_model()
        self._inspect_groups()
        self.count, self.registered = len(parameters_of(self._optimizers)), False

    def check_other(self, optimizer: torch.optim.Optimizer) -> None:
        """Refuse a step of an optimizer that ``Gossip`` was not given over parameters that are exchanged.

        Raises:
            RuntimeError: naming both optimizers, and what to do.
        """
        count = sum(len(group["params"]) for group in optimizer.param_groups)
        if self._others.get(optimizer) == count:
            return
        if any(id(parameter) in self._exchanged for parameter in parameters_of([optimizer])):
            given = " and ".join(type(own).__name__ for own in self._optimizers)
            raise RuntimeError(
                f"{type(optimizer).__name__} steps over parameters of a model whose Gossip was given {given}, so its"
                " steps are not exchanged; give Gossip the optimizer whose step() is called, or a list of all that step"
            )
        self._others[optimizer] = count

    def unfrozen(self, parameter: nn.Parameter) -> RuntimeError:
        """Return the error to raise where a parameter that was frozen needs a gradient."""
        return RuntimeError(
            f"parameter '{self._name(parameter)}' was unfrozen after Gossip was built, so it is not exchanged; unfreeze"
            f" it before, or {_ANEW}"
        )

    # -- inside ------------------------------------------------------------------------------------------------------
    def _inspect_model(self) -> None:
        if any(is_sharded(parameter) for parameter in self._exchanged.values()):
            return  # FSDP2 itself puts whole parameters in their place for a while
        now = dict(self._model.named_parameters(remove_duplicate=False))
        for name, parameter in self._names.items():
            if now.get(name, parameter) is not parameter:
                raise RuntimeError(
                    f"parameter '{name}' was replaced after Gossip was built, so it is not exchanged; load with"
                    f" load_state_dict(assign=False), change layers before, or {_ANEW}, with an optimizer of the new"
                    " parameters"
                )

    def _inspect_groups(self) -> None:
        frozen = []
        for parameter in parameters_of(self._optimizers):
            if id(parameter) in self._exchanged or id(parameter) in self._at_first:
                continue
            if parameter.requires_grad and not any(parameter is each for each in self.frozen):
                raise RuntimeError(
                    f"parameter '{self._name(parameter)}' was added to the optimizer after Gossip was built, so it is"
                    f" not exchanged; add it before, or {_ANEW}"
                )
            frozen.append(parameter)
        self.frozen = frozen

    def _name(self, parameter: nn.Parameter) -> str:
        return next((name for name, one in self._model.named_parameters() if one is parameter), "?")
