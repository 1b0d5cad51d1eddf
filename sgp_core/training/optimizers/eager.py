"""Torch's optimizers without their guards for ``torch.compile``, which take longer to import than all else in a run.

Torch keeps ``torch.compile`` away from some methods of an optimizer by decorators that import its machinery on the
first call, 900 modules, whether or not anything is compiled; here nothing is. The undecorated methods are what
``functools.wraps`` keeps of them. Should a version of torch decorate them otherwise, they are used as they are.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch.optim import Optimizer

O = TypeVar("O", bound="Optimizer")  # noqa: E741

_GUARDED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


@cache
def eager(cls: type[O]) -> type[O]:
    """Return a subclass of torch's optimizer ``cls`` that computes the same and cannot be compiled."""
    import torch

    methods = {name: inspect.unwrap(getattr(cls, name)) for name in _GUARDED}
    methods["step"] = torch.no_grad()(inspect.unwrap(cls.step))  # the guard of ``step`` also turns gradients off
    return type(cls.__name__, (cls,), methods)
