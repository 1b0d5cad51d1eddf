"""What must be so before a rule acts on a model, and what is looked for once when it does."""

from __future__ import annotations

import gc
import sys
import warnings
import weakref
from collections.abc import Collection
from types import FrameType

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sgp_core.algorithms.base import Algorithm
from sgp_core.errors import ConfigurationError
from sgp_core.runtime.optimizers import Optimizers, list_optimizers, parameters_of

_FSDP1 = "FullyShardedDataParallel"
_FRAMES = 12
"""How far up the caller of ``optimizer.step()`` is looked for: hooks, profilers and schedules lie in between."""


def find_parameters(model: nn.Module, group: dist.ProcessGroup | None) -> list[nn.Parameter]:
    """Return the parameters that are to be exchanged.

    Raises:
        ConfigurationError: there are none, another Gossip or DistributedDataParallel has them, or this process is not
            in the group.
    """
    check_member(group)
    check_model(model, group)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ConfigurationError("the model has no trainable parameters")
    check_free(trainable)
    return trainable


_CLAIMS: weakref.WeakKeyDictionary[object, frozenset[int]] = weakref.WeakKeyDictionary()
"""The ids of the parameters that each Gossip of this process acts on, by what acts."""


def claim(owner: object, parameters: Collection[nn.Parameter]) -> None:
    """Note that ``owner`` acts on these parameters, for as long as it lives or until :func:`release`."""
    _CLAIMS[owner] = frozenset(map(id, parameters))


def release(owner: object) -> None:
    """Note that it acts no more."""
    _CLAIMS.pop(owner, None)


def check_free(parameters: Collection[nn.Parameter]) -> None:
    """Refuse parameters that a Gossip acts on already.

    Raises:
        ConfigurationError: it has to be closed first.
    """
    mine = set(map(id, parameters))
    if not any(mine & theirs for theirs in _CLAIMS.values()):
        return
    gc.collect()  # one whose optimizer is no longer used does not count
    if any(mine & theirs for theirs in _CLAIMS.values()):
        raise ConfigurationError("another Gossip acts on this model already; call its close() first")


def check_optimizers(optimizer: Optimizers, model: nn.Module, algorithm: Algorithm) -> list[torch.optim.Optimizer]:
    """Return the optimizers.

    Raises:
        ConfigurationError: they update other parameters, or do not go with the algorithm.
    """
    known = {id(parameter) for parameter in model.parameters()}
    optimizers = list_optimizers(optimizer)
    if any(id(parameter) not in known for parameter in parameters_of(optimizers)):
        raise ConfigurationError(
            "the optimizer updates parameters that are not the model's; build it from model.parameters()"
        )
    for each in optimizers:
        for group in each.param_groups:
            algorithm.check_optimizer(group)
    return optimizers


def check_member(group: dist.ProcessGroup | None) -> None:
    """Refuse a process that is not in the group.

    Raises:
        ConfigurationError: it is not, or there is no torch.distributed.
    """
    if group is None:
        return
    if not dist.is_initialized():
        raise ConfigurationError("process_group was given, but torch.distributed is not initialised")
    if group is dist.GroupMember.NON_GROUP_MEMBER or dist.get_rank(group) < 0:
        raise ConfigurationError(
            f"this process, rank {dist.get_rank()}, is not in process_group; build Gossip on the group's members only"
        )


def check_model(model: nn.Module, group: dist.ProcessGroup | None) -> None:
    """Refuse a model in which something averages gradients over the workers that are to gossip.

    Raises:
        ConfigurationError: it says what, and how to turn it off.
    """
    for module in model.modules():
        if isinstance(module, DistributedDataParallel) and _averages_over(module, group):
            raise _averaged_already("the model is wrapped in DistributedDataParallel: give Gossip model.module")
        if any(kind.__name__ == _FSDP1 for kind in type(module).__mro__):
            raise ConfigurationError(
                f"the model is wrapped in {_FSDP1}, which shards it over all workers, so that there is nothing to"
                " gossip; leave it out, or shard inside nodes: fully_shard and Gossip(node_size=...)"
            )


def check_not_wrapped(parameters: Collection[nn.Parameter], group: dist.ProcessGroup | None) -> None:
    """Refuse a model that has been wrapped in DistributedDataParallel since; looks at every object there is.

    Raises:
        ConfigurationError: it says how to turn it off.
    """
    mine = set(map(id, parameters))
    for wrapper in [one for one in gc.get_referrers(DistributedDataParallel) if type(one) is DistributedDataParallel]:
        if any(id(parameter) in mine for parameter in wrapper.parameters()) and _averages_over(wrapper, group):
            raise _averaged_already(
                "the model was wrapped in DistributedDataParallel after Gossip was built: leave it out"
            )


def _averages_over(wrapper: DistributedDataParallel, group: dist.ProcessGroup | None) -> bool:
    """Whether it averages over workers that gossip with each other: inside of nodes of its own, it may."""
    averaged = set(dist.get_process_group_ranks(wrapper.process_group))
    return len(averaged & set(dist.get_process_group_ranks(group))) > 1


def _averaged_already(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what}; it averages the gradients of all workers in every backward, so that nothing is left to gossip (with"
        " Hugging Face, use GossipTrainer or GossipAccelerator; with Lightning, GossipStrategy: see"
        " sgp_core.integrations)"
    )


def warn_of_plain_scaler(optimizer: torch.optim.Optimizer) -> None:
    """Warn if a plain ``GradScaler`` is calling ``optimizer.step()``; to be called inside a step."""
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        return  # it is called at every step, and leaves the update out by itself
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_FRAMES):
        if frame is None:
            return
        if frame.f_code is torch.amp.GradScaler.step.__code__:  # the locals of users' frames would be kept alive
            kinds = type(frame.f_locals["self"]).__mro__
            if all(kind.__name__ != "ShardedGradScaler" for kind in kinds):
                warnings.warn(
                    "GradScaler skips optimizer.step() on a worker whose gradients overflow, which is then a step"
                    " behind the others; use ShardedGradScaler of torch.distributed.fsdp.sharded_grad_scaler",
                    stacklevel=2,
                )
            return
        frame = frame.f_back
