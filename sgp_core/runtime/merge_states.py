"""From what all workers have saved to what a new set of workers starts from: the average, with weight 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sgp_core.checkpoint_files import CheckpointError

Saved = dict[str, Any]
"""What one worker has saved."""


@torch.no_grad()
def merge_states(read: Callable[[int], Saved], world_size: int) -> Saved:
    """Return the average of all saved workers.

    ``parameters`` are ``sum_i x_i / sum_i w_i``, what is in flight included, by name: the sum of numerators over any
    number of workers that start from it with weight 1 is n times that average, and so nothing of what the workers had
    in common is lost. Floating-point buffers and optimizer states are averaged, whole numbers rounded; the rest is rank
    0's. One worker's file is in memory at a time, or those of one node, beside the sums.

    Args:
        read: returns what a rank has saved.
        world_size: how many have.

    Raises:
        CheckpointError: what was saved cannot be merged; the message says why.
    """
    total: list[Tensor] = []
    weight, node = 0.0, list[list[Tensor]]()
    first: Saved = {}
    buffers: Any = None
    optimizers: Any = None
    for rank in range(world_size):
        saved = read(rank)
        first = first or saved
        identity = saved["gossip"]["identity"]
        if identity["layout"] is None:
            raise CheckpointError("a model that FSDP2 has sharded cannot be reshaped; load it as it was saved")
        numerators, own_weight = saved["numerators"] or _numerators(saved["gossip"])
        node.append(numerators)
        if len(node) == identity["node_size"]:
            total = _sum(total or None, [_wide(torch.cat(parts)) for parts in zip(*node, strict=True)])
            weight += own_weight
            node.clear()
        buffers = _sum(buffers, saved["buffers"])
        optimizers = _sum(optimizers, saved["optimizers"]) if not first["optimizer_sharded"] else None
    identity = first["gossip"]["identity"]
    places = zip(identity["parameters"], identity["layout"], strict=True)
    return {
        **{name: first[name] for name in ("frozen", "extra", "optimizer_groups")},
        "step": first["gossip"]["step"],
        "identity": identity,
        "parameters": {
            name: torch.as_strided(total[piece], shape, strides, offset).div(weight).to(getattr(torch, dtype))
            for (name, shape, dtype), (piece, offset, strides) in places
        },
        "buffers": _mean(buffers, first["buffers"], world_size),
        "optimizers": None if optimizers is None else _mean(optimizers, first["optimizers"], world_size),
    }


def _numerators(state: Saved) -> tuple[list[Tensor], float]:
    weight = float(state["push_sum_weight"])
    return [_wide(tensor).mul_(weight) for tensor in state["parameters"]], weight


def _wide(tensor: Tensor) -> Tensor:
    """Return a copy in which many may be added without rounding."""
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64, copy=True)


def _sum(total: Any, more: Any) -> Any:
    """Return the sum of two nested states, tensor by tensor; anything else, such as an option, is that of the first.

    Raises:
        CheckpointError: they do not have the same shape.
    """
    if isinstance(more, Tensor):
        if total is not None and total.shape != more.shape:
            raise CheckpointError("the states of the workers differ in shape, so they have no average")
        return _wide(more) if total is None else total.add_(more)
    if isinstance(more, dict):
        if total is not None and total.keys() != more.keys():
            raise CheckpointError("the states of the workers differ in what they hold, so they have no average")
        return {key: _sum(None if total is None else total[key], value) for key, value in more.items()}
    if isinstance(more, list | tuple):
        if total is not None and len(total) != len(more):
            raise CheckpointError("the states of the workers differ in length, so they have no average")
        return [_sum(None if total is None else total[number], value) for number, value in enumerate(more)]
    return more if total is None else total


def _mean(total: Any, like: Any, count: int) -> Any:
    """Return ``total / count`` in the dtypes of ``like``, whole numbers rounded; flags are those of ``like``."""
    if isinstance(like, Tensor):
        if like.dtype == torch.bool:
            return like
        mean = total / count
        return (mean if like.is_floating_point() or like.is_complex() else mean.round()).to(like.dtype)
    if isinstance(like, dict):
        return {key: _mean(total[key], value, count) for key, value in like.items()}
    if isinstance(like, list | tuple):
        return type(like)(_mean(total[number], value, count) for number, value in enumerate(like))
    return like
