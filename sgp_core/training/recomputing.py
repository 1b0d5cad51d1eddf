"""Activation checkpointing (Chen et al. 2016): what blocks keep for backward is computed again, to save memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from sgp_core.errors import ConfigurationError
from sgp_core.training.compiling import blocks


def recompute_blocks(model: nn.Module) -> None:
    """Have each block of ``model`` keep its inputs only, and compute the rest again in backward.

    Results are the same, dropout included. Parameter names do not change. A block's forward takes place once more, so a
    step computes a third more.

    Raises:
        ConfigurationError: there are no blocks, or one has batch normalisation, whose statistics would count each batch
            twice.
    """
    setting = "training.activation_checkpointing=true"
    found = list(blocks(model))
    if not found:
        raise ConfigurationError(f"{setting}: this model has no blocks, only single layers; leave it false")
    if any(isinstance(module, _BatchNorm) for block in found for module in block.modules()):
        raise ConfigurationError(
            f"{setting}: the blocks of this model have batch normalisation, whose statistics would count each batch"
            " twice; leave it false"
        )
    for block in found:
        vars(block)["forward"] = partial(_run, block, block.forward)


def _run(block: nn.Module, forward: Callable[..., Any], *inputs: Any) -> Any:
    if block.training and torch.is_grad_enabled():
        return checkpoint(forward, *inputs, use_reentrant=False)
    return forward(*inputs)
