"""Numbers that are none."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sgp_core.faults.base import FAULTS, Moment, StepFault


class NanTensor(StrEnum):
    """What is not a number."""

    loss = "loss"
    gradient = "gradient"
    parameter = "parameter"


@FAULTS.register("nan")
@dataclass(frozen=True, kw_only=True)
class NotANumber(StepFault):
    """The loss of a step, a gradient or a parameter is nan.

    Args:
        tensor: which: the loss, by the model's output; the gradient of the first parameter; or an element of it.
    """

    tensor: NanTensor = NanTensor.loss

    def strike(self, moment: Moment) -> None:
        model = moment.target.model
        parameter = next(parameter for parameter in model.parameters() if parameter.requires_grad)
        if self.tensor is NanTensor.parameter:
            parameter.data.view(-1)[:1] = math.nan
        elif self.tensor is NanTensor.gradient:
            _change_once(parameter.register_hook, _spoil)
        else:
            _change_once(model.register_forward_hook, _spoil)


def _change_once(register: Callable[[Callable[..., Any]], Any], change: Callable[[Any], Any]) -> None:
    """Register a hook that changes the last of what it is given, the next time only."""

    def hook(*arguments: Any) -> Any:
        handle.remove()
        return change(arguments[-1])

    handle = register(hook)


def _spoil(output: Any) -> Any:
    from torch.utils import _pytree as pytree

    return pytree.tree_map(lambda each: each * math.nan if hasattr(each, "is_floating_point") else each, output)
