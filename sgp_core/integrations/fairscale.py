"""From fairscale's ``SlowMoDistributedDataParallel`` to ``Gossip``: its arguments, and the order of its steps.

fairscale need not be installed. States of it are converted by :mod:`sgp_core.integrations.fairscale_state`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sgp_core.algorithms import Algorithm, build_algorithm, build_outer
from sgp_core.distributed.process_group import gather_objects
from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.gossip import Gossip
from sgp_core.integrations.fairscale_graphs import CountedGossips, RotatingEdges
from sgp_core.integrations.fairscale_state import (
    begin_first_block,
    from_gossip,
    read_checkpoint,
    read_state,
    set_anchor,
    to_gossip,
    write_state,
)
from sgp_core.topology import Topology, build_topology

__all__ = [
    "attach",
    "begin_first_block",
    "from_arguments",
    "from_gossip",
    "read_checkpoint",
    "read_state",
    "to_gossip",
    "write_state",
]

DEFAULTS: dict[str, Any] = {
    "slowmo_base_algorithm": "localsgd",
    "slowmo_momentum": 0.5,
    "slowmo_memory_efficient": True,
    "slowmo_frequency": 48,
    "slowmo_lr": 1.0,
    "slowmo_num_shards": 32,
    "localsgd_frequency": 3,
    "graph": None,
    "slowmo_sgp_average_params": False,
}
"""Arguments of fairscale's that decide on numbers, and what they are if left out."""

_WITHOUT_EFFECT = {
    *("broadcast_buffers", "push_sum", "use_streams", "synch_freq", "overlap", "verbose", "profile_mode"),
    *("process_rank", "process_world_size", "global_group", "master_group", "local_node_group", "comm_device"),
}


def from_arguments(
    world_size: int, nprocs_per_node: int = 1, *, imitate: bool = False, **arguments: Any
) -> dict[str, Any]:
    """Return options of ``Gossip`` for arguments of ``SlowMoDistributedDataParallel``, with the same defaults.

    Args:
        world_size: workers in all.
        nprocs_per_node: those of a node, who average their gradients and gossip as one.
        imitate: count rounds of gossip as fairscale does, see :func:`attach`.
        arguments: as fairscale has them. ``graph`` is one of fairscale's managers, or a topology of ours, or its name.

    Raises:
        ConfigurationError: an argument does not exist, or has no counterpart.
    """
    given = _checked(arguments)
    if world_size % nprocs_per_node:
        raise ConfigurationError(f"{world_size} workers cannot be divided into nodes of {nprocs_per_node}")
    nodes = world_size // nprocs_per_node
    slowmo, gossips = _has_slowmo(given), _base(given) == "sgp"
    algorithm: Algorithm
    if nodes == 1:  # fairscale then averages gradients, and neither gossips nor averages models
        algorithm = build_algorithm("local_sgd", period=0)
    elif gossips:
        algorithm = build_algorithm("sgp")
    else:
        algorithm = build_algorithm("local_sgd", period=given["localsgd_frequency"])
    tau = given["slowmo_frequency"]
    if slowmo:
        options = {"tau": tau, "beta": given["slowmo_momentum"], "alpha": given["slowmo_lr"], "buffers": "maintain"}
        algorithm = build_outer("slowmo", algorithm, exact_average=_averages_exactly(given), **options)
    options = {"algorithm": algorithm, "topology": None, "node_size": nprocs_per_node}
    if gossips:
        topology = _topology(given["graph"], nodes)
        options["topology"] = CountedGossips(nodes, topology, tau) if imitate and _skips(given) else topology
    return options


def attach(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    nprocs_per_node: int = 1,
    *,
    imitate: bool = False,
    process_group: dist.ProcessGroup | None = None,
    gossip: dict[str, Any] | None = None,
    **arguments: Any,
) -> Gossip:
    """Return a ``Gossip`` in the place of ``SlowMoDistributedDataParallel(model, nprocs_per_node, ...)``.

    The loop then calls ``model`` itself, and not ``perform_slowmo``, which ``optimizer.step()`` does.

    Args:
        model, optimizer: the user's.
        nprocs_per_node: workers of a node.
        imitate: differ from the published algorithm where fairscale does. Its first block begins with the model *after*
            the first step of the optimizer, in the memory-efficient form with that of the worker who has the shard; and
            its graph moves on only in steps in which it gossips.
        process_group: all workers; None for the default group.
        gossip: options of ``Gossip`` that fairscale does not have.
        arguments: as for :func:`from_arguments`.

    Raises:
        ConfigurationError: as :func:`from_arguments` and :class:`sgp_core.Gossip` do.
    """
    world_size = dist.get_world_size(process_group) if dist.is_initialized() else 1
    options = from_arguments(world_size, nprocs_per_node, imitate=imitate, **arguments)
    given = _checked(arguments)
    later = imitate and _has_slowmo(given)
    shards = min(world_size, given["slowmo_num_shards"]) if given["slowmo_memory_efficient"] else None
    begins = _BeginsLater(model, optimizer, process_group, shards) if later else None
    attached = Gossip(model, optimizer, process_group=process_group, **options, **(gossip or {}))
    if begins is not None:
        begins.follow(attached)
    return attached


class _BeginsLater:
    """Lets the first block of SlowMo begin with the model that the optimizer's first step has left.

    Args:
        shards: in so many equal portions of all parameters, that of the rank that has the portion; None: each worker's.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, group: dist.ProcessGroup | None, shards: int | None
    ) -> None:
        self._model, self._optimizer, self._group, self._shards = model, optimizer, group, shards
        self._anchor: Tensor | None = None
        self._began = False
        optimizer.register_step_post_hook(self._remember)  # before those of Gossip

    def follow(self, gossip: Gossip) -> None:
        """Act once ``gossip`` has taken its first step."""
        self._gossip = gossip
        self._optimizer.register_step_post_hook(self._replace)

    def _remember(self, *_: object) -> None:
        if self._began or self._gossip.step:  # or it goes on from a state
            return
        groups = self._optimizer.param_groups
        own = torch.cat([parameter.detach().flatten() for group in groups for parameter in group["params"]]).cpu()
        if self._shards is not None:
            length = (own.numel() + self._shards - 1) // self._shards
            rank = self._gossip.rank
            portions = gather_objects(own[rank * length : (rank + 1) * length], self._group)
            own = torch.cat(portions[: self._shards])
        self._anchor = own

    def _replace(self, *_: object) -> None:
        self._began = True
        if self._anchor is None:
            return
        set_anchor(self._gossip, self._model, self._optimizer, self._anchor)
        self._anchor = None


def _checked(arguments: dict[str, Any]) -> dict[str, Any]:
    for name, value in arguments.items():
        if name not in DEFAULTS and name not in _WITHOUT_EFFECT:
            if name == "mixing":
                raise ConfigurationError("fairscale's mixing managers are uniform; for other weights give a topology")
            known = DEFAULTS.keys() | _WITHOUT_EFFECT
            raise ConfigurationError(f"fairscale's SlowMo has no argument '{name}'{did_you_mean(name, known)}")
        if name == "overlap" and value:
            raise ConfigurationError("fairscale itself refuses overlap=True; for messages that overlap use 'osgp'")
    given = {**DEFAULTS, **{name: value for name, value in arguments.items() if name in DEFAULTS}}
    if _base(given) not in ("sgp", "localsgd"):
        raise ConfigurationError(f"slowmo_base_algorithm must be 'sgp' or 'localsgd', not {_base(given)!r}")
    return given


def _base(given: dict[str, Any]) -> str:
    name = given["slowmo_base_algorithm"]
    return str(getattr(name, "value", name)).lower()


def _has_slowmo(given: dict[str, Any]) -> bool:
    return bool(given["slowmo_lr"] != 1 or given["slowmo_momentum"] != 0)


def _skips(given: dict[str, Any]) -> bool:
    """Whether the last step of a block has no gossip."""
    return _has_slowmo(given) and (given["slowmo_memory_efficient"] or given["slowmo_sgp_average_params"])


def _averages_exactly(given: dict[str, Any]) -> bool:
    """Whether the slow step is one of the average, and not of each worker's model."""
    if given["slowmo_memory_efficient"]:
        return True
    if _base(given) == "sgp":
        return bool(given["slowmo_sgp_average_params"])
    return bool(given["slowmo_frequency"] % given["localsgd_frequency"] == 0)


def _topology(choice: Any, nodes: int) -> Topology:
    if isinstance(choice, Topology):
        return choice
    if hasattr(choice, "phone_book"):
        return RotatingEdges.of(choice)
    return build_topology("one_peer_exponential" if choice is None else choice, world_size=nodes)
