"""torch.compile block by block: gradients then still arrive one after the other, and gossip can overlap backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from sgp_core.errors import ConfigurationError

_HOLD_BLOCKS = (nn.Sequential, nn.ModuleList)


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks of a model: modules with children in an ``nn.Sequential`` or ``nn.ModuleList``.

    Those are the residual blocks of a ResNet and the layers of a transformer. A block inside a block is a part of it.
    """
    for child in model.children():
        if isinstance(model, _HOLD_BLOCKS) and type(child) not in _HOLD_BLOCKS and any(True for _ in child.children()):
            yield child
        else:
            yield from blocks(child)


def compile_blocks(model: nn.Module, backend: str | Callable[..., Any] = "inductor") -> None:
    """Have torch compile each block of ``model`` at its first forward pass. Parameter names do not change.

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
    # Torch stops compiling a function after 8 versions, and all blocks count as versions of one function. There is a
    # version for each shape: in training, in evaluation, and for the shorter last batches of both.
    config.recompile_limit = max(config.recompile_limit, 8 * len(found))
    for block in found:
        block.compile(backend=backend)
