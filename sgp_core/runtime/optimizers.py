"""One or several optimizers over one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from sgp_core.errors import ConfigurationError

Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]


class JointOptimizer:
    """Several optimizers as a rule sees them: as one."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._optimizers = list(optimizers)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all."""
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    @property
    def state(self) -> dict[Any, Any]:
        """What all remember, by parameter."""
        return {key: value for optimizer in self._optimizers for key, value in optimizer.state.items()}


def list_optimizers(optimizer: Optimizers) -> list[torch.optim.Optimizer]:
    """Return the optimizers, one or several, ready to be followed by step hooks.

    Classes that wrap an optimizer often leave out ``Optimizer.__init__``, which prepares a class for hooks. Torch would
    do that at the first ``zero_grad()``, and the first step would go unnoticed.

    Raises:
        ConfigurationError: there is none, or one that cannot be followed; the message says what would be right.
    """
    optimizers = [optimizer] if isinstance(optimizer, torch.optim.Optimizer) else optimizer
    if not isinstance(optimizers, list | tuple) or not optimizers:
        raise ConfigurationError(f"Gossip needs an optimizer, or a list of optimizers, not {optimizer!r}")
    for each in optimizers:
        name = type(each).__name__
        if not isinstance(each, torch.optim.Optimizer):
            raise ConfigurationError(f"Gossip needs optimizers of torch.optim.Optimizer, not {name}")
        if not hasattr(each, "_optimizer_step_pre_hooks"):
            raise ConfigurationError(
                f"{name} has no step hooks, since it does not call torch.optim.Optimizer.__init__; give Gossip the"
                " optimizer that it wraps"
            )
        if not getattr(type(each).step, "hooked", False):
            if "step" in vars(each):  # made of the step without hooks
                raise ConfigurationError(f"a scheduler has wrapped the step of {name} already; build Gossip before it")
            each._patch_step_function()
    return list(optimizers)


def one_only(optimizers: Sequence[torch.optim.Optimizer], option: str) -> torch.optim.Optimizer:
    """Return the only optimizer.

    Raises:
        ConfigurationError: there are several, and ``option`` needs one.
    """
    if len(optimizers) > 1:
        raise ConfigurationError(f"{option} needs a single optimizer, here are {len(optimizers)}; use {option}=False")
    return optimizers[0]


def parameters_of(optimizers: Sequence[torch.optim.Optimizer]) -> list[nn.Parameter]:
    """Return the parameters in the groups of all."""
    return [each for optimizer in optimizers for group in optimizer.param_groups for each in group["params"]]


_WHOLE_TENSORS = frozenset(("Adafactor", "LBFGS", "Muon", "Shampoo", "SOAP"))
"""Names of classes, their subclasses included, that look at more than one element at a time."""


def is_element_wise(optimizer: torch.optim.Optimizer) -> bool:
    """Whether what the optimizer does to an element depends on that element, and on its group's options, alone.

    An attribute ``element_wise`` of its class says so. Without one all do, but for some known by the names of their
    classes.
    """
    said = getattr(optimizer, "element_wise", None)
    if said is not None:
        return bool(said)
    return not any(kind.__name__ in _WHOLE_TENSORS for kind in type(optimizer).__mro__)


def check_element_wise(optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimizer for workers whose models are vectors, the rows of a matrix.

    Raises:
        ConfigurationError: it would take that for one tensor.
    """
    if not is_element_wise(optimizer):
        raise ConfigurationError(
            f"{type(optimizer).__name__} looks at more than one element at a time, and simulated workers are rows of a"
            " matrix; use one that does not, such as AdamW, or sgp-train with cluster=simulator"
        )


_READ_FOR_DECAY_ALONE = frozenset(
    (
        torch.optim.SGD,
        torch.optim.Adam,
        torch.optim.AdamW,
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.Adamax,
        torch.optim.Adagrad,
        torch.optim.Adadelta,
        torch.optim.RMSprop,
    )
)


def update_reads_model(optimizers: Sequence[torch.optim.Optimizer]) -> bool:
    """Whether what the optimizers add to parameters may depend on their values, and not on their gradients alone.

    Torch's own do not without weight decay. Of others, subclasses among them, nothing is known.
    """
    return any(
        type(optimizer) not in _READ_FOR_DECAY_ALONE
        or any(group.get("weight_decay") for group in optimizer.param_groups)
        for optimizer in optimizers
    )
