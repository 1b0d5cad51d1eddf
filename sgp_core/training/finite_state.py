"""Whether a saved state holds numbers that are not finite: such a checkpoint is neither written nor resumed from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_BUFFERS = "buffers"
"""Buffers may hold infinity on purpose, such as a mask or a range that begins empty; nan is damage there, too."""


def find_nonfinite(state: dict[str, Any]) -> str | None:
    """Return where a worker's state holds a tensor that is not finite, such as ``optimizer.state.0.exp_avg``, or None.

    Args:
        state: nested dicts, lists and tuples of tensors and anything else.
    """
    for name, tensor in _tensors(state, ""):
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        if math.isfinite(float(tensor.sum())):
            continue
        wrong = torch.isnan(tensor) if name.startswith(_BUFFERS) else ~torch.isfinite(tensor)
        if bool(wrong.any()):
            return name
    return None


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict | list | tuple):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, entry in entries:
            yield from _tensors(entry, f"{name}.{key}" if name else str(key))
