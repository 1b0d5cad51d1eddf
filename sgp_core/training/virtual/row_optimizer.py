"""An optimizer that looks at whole tensors, over those of all virtual workers: it steps on one worker after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sgp_core.training.virtual.models import VirtualModels


class RowOptimizer(torch.optim.Optimizer):
    """Holds every parameter of a module ``[k, *shape]``, for k workers, and what the optimizer remembers likewise.

    Args:
        optimizer: over the parameters of the module, which has taken no step. Its groups give theirs their options.
        models: of all workers.
        rows: those of the workers that it steps on.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, models: VirtualModels, rows: slice) -> None:
        stacks = dict(zip(map(id, models.parameters), models.views(models.z[rows]), strict=True))
        gradients = dict(zip(map(id, models.parameters), models.views(models.gradients[rows]), strict=True))
        self._single = optimizer
        self._rows: dict[nn.Parameter, list[nn.Parameter]] = {}
        self.stacked: list[tuple[nn.Parameter, Tensor]] = []
        """Every parameter with the gradients that belong to it."""
        groups, state = [], dict[nn.Parameter, dict[str, Any]]()
        for group in optimizer.param_groups:
            stacked = [nn.Parameter(stacks[id(parameter)]) for parameter in group["params"]]
            for parameter, single in zip(stacked, group["params"], strict=True):
                self._rows[parameter] = [nn.Parameter(row) for row in parameter.detach()]
                self.stacked.append((parameter, gradients[id(single)]))
                state[parameter] = {
                    key: value.expand(len(parameter), *value.shape).clone() if isinstance(value, Tensor) else value
                    for key, value in optimizer.state.get(single, {}).items()
                }
            groups.append({**group, "params": stacked})
        super().__init__(groups, {})
        self.defaults = optimizer.defaults
        self.state.update({parameter: values for parameter, values in state.items() if values})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Step on the parameters of one worker after another."""
        assert closure is None, "virtual workers have their gradients already"
        before = {parameter: dict(self.state.get(parameter, {})) for parameter in self._rows}
        for row in range(len(next(iter(self._rows.values())))):
            self._step_on(row, before)

    def _step_on(self, row: int, before: dict[nn.Parameter, dict[str, Any]]) -> None:
        single = self._single
        given: dict[nn.Parameter, dict[str, Any]] = {}
        single.state.clear()
        for group, mine in zip(single.param_groups, self.param_groups, strict=True):
            group.update({option: value for option, value in mine.items() if option != "params"})
            group["params"] = [self._rows[parameter][row] for parameter in mine["params"]]
            for stacked, parameter in zip(mine["params"], group["params"], strict=True):
                parameter.grad = None if stacked.grad is None else stacked.grad[row]
                if before[stacked]:
                    given[parameter] = {key: _of_row(value, row) for key, value in before[stacked].items()}
                    single.state[parameter] = dict(given[parameter])
        single.step()
        for stacked, parameters in self._rows.items():
            for key, value in single.state.get(parameters[row], {}).items():
                if given.get(parameters[row], {}).get(key) is not value or not isinstance(value, Tensor):
                    self._keep(stacked, row, key, value)

    def _keep(self, stacked: nn.Parameter, row: int, key: str, value: Any) -> None:
        """Keep what the optimizer remembers of a worker's parameter and has not written in place."""
        state = self.state[stacked]
        if not isinstance(value, Tensor):
            state[key] = value
            return
        if not isinstance(state.get(key), Tensor):
            state[key] = value.new_zeros((len(stacked), *value.shape))
        state[key][row] = value


def _of_row(value: Any, row: int) -> Any:
    return value[row] if isinstance(value, Tensor) else value
