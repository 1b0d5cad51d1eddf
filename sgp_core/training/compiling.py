"""torch.compile, block by block: gradients still come one after the other, so that gossip can overlap backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from sgp_core.errors import ConfigurationError

_HOLD_BLOCKS = (nn.Sequential, nn.ModuleList)


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield what a model is a chain of: modules with parts of their own in an ``nn.Sequential`` or ``nn.ModuleList``.

    Those are the residual blocks of a ResNet and the layers of a transformer. A block inside a block is a part of it.
    """
    for child in model.children():
        if isinstance(model, _HOLD_BLOCKS) and type(child) not in _HOLD_BLOCKS and any(True for _ in child.children()):
            yield child
        else:
            yield from blocks(child)


def compile_blocks(model: nn.Module, backend: str | Callable[..., Any] = "inductor") -> None:
    """Let torch compile each block of ``model`` when it first computes. The names of its parameters stay as they are.

    Blocks of one kind and shape share their code. A C++ compiler is needed on CPUs.

    Raises:
        ConfigurationError: there are no blocks.
    """
    from torch._dynamo import config

    found = list(blocks(model))
    if not found:
        raise ConfigurationError(
            "training.compile=blocks: this model has no blocks, only single layers; use training.compile=null"
        )
    # Torch gives up on a function after 8 versions of it, and all blocks are versions of one: each shape is another,
    # while training, while evaluating, and for the shorter batches at the end of either.
    config.recompile_limit = max(config.recompile_limit, 8 * len(found))
    for block in found:
        block.compile(backend=backend)
