"""One optimizer over the models of all virtual workers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sgp_core.errors import ConfigurationError
from sgp_core.runtime.optimizers import is_element_wise
from sgp_core.training.optimizers.eager import eager
from sgp_core.training.virtual.models import VirtualModels
from sgp_core.training.virtual.row_optimizer import RowOptimizer


def stack_optimizer(
    optimizer: torch.optim.Optimizer, models: VirtualModels, rows: slice = slice(None)
) -> tuple[torch.optim.Optimizer, list[tuple[nn.Parameter, Tensor]]]:
    """Let an optimizer over a module's parameters step on those of all workers, which are rows of one matrix.

    If what it does to an element depends on that element alone, it is given columns of the matrix; else each worker's
    parameters by themselves.

    Args:
        optimizer: has taken no step; its groups keep their options.
        rows: those of the workers that it steps on.

    Returns:
        The optimizer to use from now on, and its parameters, ``[n, ...]``, each with the gradients that belong to it.

    Raises:
        ConfigurationError: it does not start from zero, and rows are padded.
    """
    if not is_element_wise(optimizer):
        by_row = eager(RowOptimizer)(optimizer, models, rows)
        return by_row, by_row.stacked
    places = {id(parameter): place for parameter, place in zip(models.parameters, models.spans, strict=True)}
    order = {id(parameter): number for number, parameter in enumerate(models.parameters)}
    stacked: list[tuple[nn.Parameter, Tensor]] = []
    for group in optimizer.param_groups:
        runs: list[list[nn.Parameter]] = []
        for parameter in sorted(group["params"], key=lambda each: order[id(each)]):
            if runs and order[id(parameter)] == order[id(runs[-1][-1])] + 1:
                runs[-1].append(parameter)
            else:
                runs.append([parameter])
        group["params"] = []
        for run in runs:
            begin, end = places[id(run[0])][0], places[id(run[-1])][1]
            if len(run) == len(models.parameters):
                begin, end = 0, models.z.shape[1]  # padding included: zeros, which stay zero
            elif "fused" in group and models.z[rows].shape[0] > 1:
                group["fused"] = None  # the kernels on CPUs are for contiguous memory
            columns = nn.Parameter(models.z[rows, begin:end])
            group["params"].append(columns)
            stacked.append((columns, models.gradients[rows, begin:end]))
            _stack_state(optimizer, run, columns)
    return optimizer, stacked


def _stack_state(optimizer: torch.optim.Optimizer, run: list[nn.Parameter], columns: nn.Parameter) -> None:
    """Give the columns the state of the parameters that they are made of."""
    states: list[dict[str, Any]] = [optimizer.state.pop(parameter, {}) for parameter in run]
    if not states[0]:
        return
    stacked: dict[str, Any] = {}
    for key, value in states[0].items():
        if isinstance(value, Tensor) and value.shape == run[0].shape:
            row = torch.cat([state[key].reshape(-1) for state in states])
            if len(row) != columns.shape[1]:
                raise ConfigurationError(f"{type(optimizer).__name__} does not start from zero, and rows are padded")
            value = row.expand_as(columns).clone()
        stacked[key] = value
    optimizer.state[columns] = stacked
