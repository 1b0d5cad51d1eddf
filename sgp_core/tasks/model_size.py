"""How large a model is and what a step of it computes, known before any data are read or memory is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sgp_core.tasks.datasets import Blueprint, Dataset
from sgp_core.tasks.models import Model
from sgp_core.tensors.layout import Layout, TensorLayout

_BACKWARD = 2
"""Floating point operations of backward per one of forward: a product for inputs and one for weights."""


@dataclass(frozen=True)
class ModelSize:
    """The size of a model.

    Attributes:
        parameters: how many train.
        bytes: that they take, which is what a message holds.
        layout: as a vector, for codecs to say how many bytes they make of it.
    """

    parameters: int
    bytes: int
    layout: Layout


def measure_model(model: Model, dataset: Dataset) -> ModelSize:
    """Return the size of ``model`` on ``dataset``.

    Where the data set says what a model is built for, the model is built without memory (torch's meta device), and
    nothing is read. Elsewhere the data are loaded.

    Raises:
        ConfigurationError: the model cannot be built for such data, or the data are not there.
    """
    blueprint = dataset.blueprint(1)
    return size_of(dataset.load().build(model) if blueprint is None else _build(model, blueprint))


def size_of(module: nn.Module) -> ModelSize:
    """Return the size of a module's trainable parameters."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    by_dtype: dict[str, list[torch.Size]] = {}
    for parameter in trained:
        by_dtype.setdefault(str(parameter.dtype).removeprefix("torch."), []).append(parameter.shape)
    return ModelSize(
        parameters=sum(parameter.numel() for parameter in trained),
        bytes=sum(parameter.numel() * parameter.element_size() for parameter in trained),
        layout=[TensorLayout.packed(shapes, dtype) for dtype, shapes in by_dtype.items()],
    )


def count_step_flops(model: Model, dataset: Dataset, batch_size: int) -> float | None:
    """Return the floating point operations of a worker's forward and backward in one step; None where unknown.

    torch counts those of forward, on tensors without memory; backward has twice as many.

    Args:
        batch_size: examples of a worker and step; text counts tokens instead.
    """
    from torch.utils.flop_counter import FlopCounterMode

    blueprint = dataset.blueprint(batch_size)
    if blueprint is None:
        return None
    module = _build(model, blueprint)
    inputs = [torch.zeros(shape, dtype=getattr(torch, kind), device="meta") for kind, shape in blueprint.inputs]
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), torch.device("meta"), counter:
            module(*inputs)
    except (NotImplementedError, RuntimeError):  # it looks at the numbers, and there are none
        return None
    return float(counter.get_total_flops() * (1 + _BACKWARD)) or None


def _build(model: Model, blueprint: Blueprint) -> nn.Module:
    build: Any = model
    with torch.device("meta"):
        module: nn.Module = build.build(**blueprint.facts)
    return module
