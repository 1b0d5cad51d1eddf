"""Checkpoint averaging: one model out of the last few checkpoints of a run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sgp_core.training.checkpoint import CheckpointStore, Manifest


@torch.no_grad()
def mean_of_checkpoints(
    store: CheckpointStore, manifests: Sequence[Manifest], model: nn.Module, node_size: int = 1
) -> dict[str, Tensor]:
    """Return the mean over checkpoints of the network-wide averages they hold, as a state dict.

    Every checkpoint counts the same (Vaswani et al. 2017, section 6.1, who average the last 5 or 20). What is not
    floating point, such as a count of batches, is that of the newest. Besides ``model`` one sum of its size and one
    worker's file are in memory, however many checkpoints there are.

    Args:
        manifests: one or more, the newest first.
        model: see :func:`~sgp_core.training.export.averaged_state`, as for errors.
    """
    from sgp_core.training.export import averaged_state

    newest, *older = manifests
    state = averaged_state(store, newest, model, node_size)
    if not older:
        return state
    mean = {name: tensor.clone() for name, tensor in state.items()}
    for manifest in older:
        for name, tensor in averaged_state(store, manifest, model, node_size).items():
            if tensor.is_floating_point():
                mean[name] += tensor
    return {
        name: tensor.div_(len(manifests)) if tensor.is_floating_point() else tensor for name, tensor in mean.items()
    }
