"""The worker that rules see, in either runtime: tensors, the user's optimizer, and the rule's own memory."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import torch
from torch import Tensor

from sgp_core.algorithms.worker import Network, OneSidedNetwork
from sgp_core.distributed.model_shard import local_tensor
from sgp_core.runtime.optimizers import JointOptimizer
from sgp_core.tensors.flat_vector import FlatVector, Scalar


class WorkerState:
    """What :class:`sgp_core.algorithms.Worker` describes.

    Args:
        params: the parameters the optimizer updates.
        optimizer: the user's own.
        network: a :class:`Network`, or a :class:`OneSidedNetwork` for rules that have ``one_sided``.
        biased: whether the PushSum weight may leave 1.
        weight: the initial PushSum weight, 1 in the runtime's own form.
        grads: gradients laid out like ``params``, if the rule reads them.
    """

    def __init__(
        self,
        params: FlatVector,
        optimizer: torch.optim.Optimizer | JointOptimizer,
        network: object,
        *,
        biased: bool,
        weight: Scalar = 1.0,
        grads: FlatVector | None = None,
    ) -> None:
        self.step = 0
        self.first_step = 0
        self.params = params
        self.grads = grads if grads is not None else FlatVector([])
        self.weight = weight
        self.biased = biased
        self.averaged = False
        self.update_reads_model = True
        self.network = cast(Network, network)
        self.one_sided = cast(OneSidedNetwork, network)
        self._optimizer = optimizer
        self._memories: dict[str, FlatVector] = {}
        self._numbers: dict[str, float] = {}

    @property
    def lr(self) -> float:
        """Learning rate of the optimizer's first parameter group."""
        return float(self._optimizer.param_groups[0]["lr"])

    def memory(self, name: str, like: FlatVector | None = None) -> FlatVector:
        """Return the persistent vector ``name``, made on first use as a copy of ``like``, else zeros."""
        if name not in self._memories:
            self._memories[name] = self.params.zeros_like() if like is None else like.clone()
        return self._memories[name]

    @property
    def memories(self) -> Collection[str]:
        """Names of the persistent vectors there are."""
        return self._memories.keys()

    def number(self, name: str, default: float = 0.0) -> float:
        """Return the persistent number ``name``."""
        return self._numbers.get(name, default)

    def set_number(self, name: str, value: float) -> None:
        """Remember ``value`` under ``name``."""
        self._numbers[name] = value

    def optimizer_buffers(self) -> FlatVector:
        """Return the floating-point optimizer state with as many axes as its parameter, in an order all workers share.

        So counts of steps are left out, and means over the rows or columns of a matrix are not.
        """
        return FlatVector(
            [local_tensor(value) for like, value in self._optimizer_tensors() if value.dim() == like.dim()]
        )

    def reset_optimizer(self) -> None:
        """Zero every tensor of the optimizer's state."""
        for _, value in self._optimizer_tensors(floating=False):
            value.zero_()

    def _optimizer_tensors(self, floating: bool = True) -> list[tuple[Tensor, Tensor]]:
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        return [
            (p, value)
            for p in parameters
            for _, value in sorted(self._optimizer.state.get(p, {}).items())
            if isinstance(value, Tensor) and (value.is_floating_point() or not floating)
        ]

    def restart(self, step: int) -> None:
        """Begin after ``step`` steps, with weight 1 and nothing remembered."""
        self.step = self.first_step = step
        self.weight, self.averaged = 1.0, False
        self._memories.clear()
        self._numbers.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return what the rule needs to go on: tensors and numbers only."""
        return {
            "step": self.step,
            "first_step": self.first_step,
            "parameters": [tensor.detach().clone() for tensor in self.params.tensors],
            "push_sum_weight": self.weight,
            "memories": {name: [t.clone() for t in flat.tensors] for name, flat in self._memories.items()},
            "numbers": dict(self._numbers),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`.

        Raises:
            ValueError: the saved vectors are laid out differently.
        """
        self.step, self.first_step = int(state["step"]), int(state.get("first_step", 0))
        self.averaged = False
        self.weight = state["push_sum_weight"]
        _load(self.params, state["parameters"], "parameters")
        self._memories = {name: self.params.zeros_like() for name in state["memories"]}
        for name, flat in self._memories.items():
            _load(flat, state["memories"][name], name)
        self._numbers = dict(state["numbers"])


def _load(flat: FlatVector, tensors: list[Tensor], name: str) -> None:
    shapes, saved = [tuple(t.shape) for t in flat.tensors], [tuple(t.shape) for t in tensors]
    if shapes != saved:
        raise ValueError(f"saved {name} are laid out as {saved}, this model as {shapes}")
    flat.copy_(FlatVector(tensors))
