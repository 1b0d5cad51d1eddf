"""The user's optimizer on this worker's shard of the model alone, as in ZeRO stage 1.

Rajbhandari, Rasley, Ruwase, He, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", SC 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sgp_core.distributed.node_group import NodeGroup
from sgp_core.errors import ConfigurationError
from sgp_core.runtime.clipping import scale_gradients_
from sgp_core.runtime.optimizers import is_element_wise
from sgp_core.tensors.flat_storage import FlatStorage
from sgp_core.tensors.flat_vector import FlatVector


class ShardedOptimizer:
    """Puts stretches of this worker's shard in the place of the optimizer's parameters, groups and options kept.

    The optimizer must treat every element by itself, as SGD, Adam and their kin do: it then computes what it would
    have computed for these elements of the whole model, with an m-th of the state and the work.

    Args:
        optimizer: one that has not stepped yet.
        storage: where the model lives, cut into as many parts as the node has workers.
        node: whose workers share the work.

    Raises:
        ConfigurationError: the optimizer has state already, or looks at more than one element at a time.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, storage: FlatStorage, node: NodeGroup) -> None:
        if not is_element_wise(optimizer):
            raise ConfigurationError(
                f"shard_optimizer: {type(optimizer).__name__} looks at more than one element at a time; use one that"
                " does not, such as SGD or AdamW, or shard_optimizer=False"
            )
        if optimizer.state:
            raise ConfigurationError("shard_optimizer: the optimizer has stepped already; build Gossip before training")
        self._node = node
        shard = node.shard_of(storage.flat)
        self._gradients = shard.zeros_like()
        self._parts: list[tuple[int, nn.Parameter, Tensor, int, int]] = []
        optimized = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        made: dict[int, nn.Parameter] = {}
        for index, piece, begin, end in storage.within(node.place, node.size):
            if id(storage.parameters[index]) not in optimized:
                continue
            part = nn.Parameter(shard.tensors[piece][begin:end])
            made[id(storage.parameters[index])] = part
            self._parts.append((index, part, self._gradients.tensors[piece][begin:end], piece, begin))
        known = {id(parameter) for parameter in storage.parameters}
        for group in optimizer.param_groups:
            group["params"] = [made.get(id(p), p) for p in group["params"] if id(p) in made or id(p) not in known]

    def take(self, gradients: FlatVector, present: Sequence[bool]) -> None:
        """Add the gradients of this shard to the optimizer's, for parameters that have one anywhere in the node."""
        for index, part, mine, piece, begin in self._parts:
            if not present[index]:
                continue
            new = gradients.tensors[piece][begin : begin + part.numel()]
            if part.grad is None:
                part.grad = mine.copy_(new)
            else:
                part.grad.add_(new)

    def clip_grad_norm_(self, parameters: Sequence[Tensor], max_norm: float) -> Tensor:
        """Scale the gradients to a norm of at most ``max_norm`` over the whole model; return the norm before."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        square = torch.nn.utils.get_total_norm(gradients).to(torch.float64).square()
        total = self._node.total(square.to(self._gradients.tensors[0].device)).sqrt()
        scale_gradients_(parameters, max_norm, total)
        return total
