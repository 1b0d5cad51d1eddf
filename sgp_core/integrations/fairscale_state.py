"""States of fairscale's ``SlowMoDistributedDataParallel``, read, converted to those of ``Gossip`` and back.

Its own ``state_dict()`` holds the model and the PushSum weight, and leaves out the slow momentum, the model that the
block began with, and the count of steps. They are read off the wrapper here. In its memory-efficient form they lie in
portions: rank r has the r-th of as many equal portions as there are shards, of all parameters in the optimizer's order.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sgp_core.distributed.process_group import gather_objects
from sgp_core.errors import ConfigurationError
from sgp_core.gossip import Gossip
from sgp_core.integrations.fairscale_graphs import CountedGossips
from sgp_core.runtime.optimizer_state import load_plain, plain
from sgp_core.runtime.state_identity import plain_name
from sgp_core.topology import Topology

State = dict[str, Any]
"""What one worker of fairscale holds; loads with ``weights_only=True``."""

_PORTION = ("portion_start", "portion_end", "world_portion_length")


def read_state(wrapper: Any, optimizer: torch.optim.Optimizer) -> State:
    """Return all that a worker of fairscale holds: save it on every rank, since ``wrapper.state_dict()`` is not enough.

    Args:
        wrapper: a ``SlowMoDistributedDataParallel``, between two steps.
        optimizer: the one that ``perform_slowmo`` is called with.
    """
    held = wrapper.state_dict()
    state = {**read_checkpoint(held, optimizer.state_dict()), "num_updates": int(wrapper.num_updates)}
    if getattr(wrapper, "global_momentum_buffer", None) is not None:
        used = max(wrapper.portion_end - wrapper.portion_start, 0)
        for name in ("global_momentum_buffer", "old_params"):
            state[name] = getattr(wrapper, name).detach().cpu().clone()
            state[name][used:] = 0.0  # the last portion may be shorter, and what follows was never written
        state |= {name: int(getattr(wrapper, name)) for name in _PORTION}
        state["memory_efficient"] = bool(wrapper.slowmo_memory_efficient)
    if wrapper.sgp:
        graph = wrapper.dist_config["graph"]
        state["gossips"] = int(graph._group_indices[0]) // graph.peers_per_itr
    return state


def read_checkpoint(model: Mapping[str, Any], optimizer: Mapping[str, Any], num_updates: int = 0) -> State:
    """Return the state that fairscale goes on from after a checkpoint: with no slow momentum, as it never saves any.

    Args:
        model: what ``wrapper.state_dict()`` was.
        optimizer: what ``optimizer.state_dict()`` was.
        num_updates: steps taken, which decide on when the next block ends; fairscale itself counts from 0 again.
    """
    tensors = {name.removeprefix("module."): value for name, value in model.items() if name.startswith("module.")}
    weight = float(model["ps_weight"]) if "ps_weight" in model else 1.0
    return {
        "module": {name: value.detach().cpu().clone() for name, value in tensors.items()},
        "optimizer": copy.deepcopy(plain(dict(optimizer))),
        "ps_weight": weight,
        "is_sgp_ps_numerator": bool(model.get("is_sgp_ps_numerator", False)),
        "num_updates": num_updates,
    }


def begin_first_block(wrapper: Any, optimizer: torch.optim.Optimizer) -> None:
    """Let fairscale's first block begin with the model as it is now, as published: call before the first step."""
    wrapper._init_global_momentum_buffers(optimizer)


@torch.no_grad()
def write_state(wrapper: Any, optimizer: torch.optim.Optimizer, state: State) -> None:
    """Let a worker of fairscale go on from ``state``, with its slow momentum and its place in the block and the graph.

    Args:
        wrapper, optimizer: built with the arguments that the state was saved with.
        state: of this rank, from :func:`read_state` or :func:`from_gossip`.
    """
    wrapper.module.load_state_dict(state["module"])
    load_plain(optimizer, copy.deepcopy(state["optimizer"]))  # which keeps tensors
    wrapper.num_updates = state["num_updates"]
    if "global_momentum_buffer" in state:
        device = next(wrapper.module.parameters()).device
        for name in ("global_momentum_buffer", "old_params"):
            setattr(wrapper, name, state[name].to(device, copy=True))
        for name in _PORTION:
            setattr(wrapper, name, state[name])
        wrapper.global_momentum_buffers_initialized = True
    if wrapper.sgp:
        wrapper.ps_weight.fill_(state["ps_weight"])
        wrapper.is_sgp_ps_numerator = state["is_sgp_ps_numerator"]
        _turn_graph(wrapper, state.get("gossips", 0))


def _turn_graph(wrapper: Any, gossips: int) -> None:
    graph = wrapper.dist_config["graph"]
    peers, edges = graph.peers_per_itr, len(graph.phone_book[graph.rank])
    graph._group_indices = [(gossips * peers + peer) % edges for peer in range(peers)]
    for gossiper in wrapper.dist_config.get("gossipers", {}).values():  # there are none on ranks that do not gossip
        gossiper.refresh_peers_(rotate=False)


# -- to and from Gossip ------------------------------------------------------------------------------------------------
@torch.no_grad()
def to_gossip(gossip: Gossip, model: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
    """Let a worker of ``Gossip`` go on from what fairscale held. Every worker must call, with its own rank's state.

    Args:
        gossip: of ``model`` and ``optimizer``; built by :func:`sgp_core.integrations.fairscale.attach` with fairscale's
            arguments.
        state: from :func:`read_state` or :func:`read_checkpoint`.

    Raises:
        ConfigurationError: it is of another model.
    """
    weight = state["ps_weight"] if state["is_sgp_ps_numerator"] else 1.0
    _load_module(model, state["module"], weight)
    load_plain(optimizer, copy.deepcopy(state["optimizer"]))  # which keeps tensors
    gossip.finish()
    ours = gossip.state_dict()
    ours["step"] = state["num_updates"]
    ours["push_sum_weight"] = state["ps_weight"] if gossip.algorithm.leaves_one(gossip.topology) else 1.0
    ours["memories"] = {name: value for name, value in ours["memories"].items() if name not in _MEMORIES}
    ours["numbers"].pop("block_lr", None)
    whole = _whole_vectors(gossip, state)
    if whole is not None:
        layout = _Layout(gossip, ours)
        momentum, anchor = whole
        rates = torch.cat([torch.full((p.numel(),), float(rate)) for p, rate in _in_order(optimizer)])
        order = _order(model, optimizer)
        for name, vector in (("slow_momentum", momentum * rates), ("anchor", anchor)):
            ours["memories"][name] = layout.lay_out(_cut(vector, order), ours["parameters"])
        ours["numbers"]["block_lr"] = float(optimizer.param_groups[0]["lr"])
    gossip.load_state_dict(ours)


@torch.no_grad()
def from_gossip(
    gossip: Gossip, model: nn.Module, optimizer: torch.optim.Optimizer, num_shards: int | None = 32
) -> State:
    """Return what this worker holds as fairscale would, for :func:`write_state`. Every worker must call.

    Args:
        gossip: of ``model`` and ``optimizer``, between two steps.
        num_shards: fairscale's ``slowmo_num_shards``; None: ``slowmo_memory_efficient=False``.

    Raises:
        ConfigurationError: the learning rate is 0, by which fairscale divides.
    """
    gossip.finish()
    ours = gossip.state_dict()
    weight = float(ours["push_sum_weight"])
    trained = {plain_name(name) for name, _ in model.named_parameters()}
    held: dict[str, Any] = {
        f"module.{plain_name(name)}": value * weight if plain_name(name) in trained and weight != 1.0 else value
        for name, value in model.state_dict().items()
    }
    if gossip.algorithm.traits.sends_weight:  # between two steps fairscale holds numerators
        held |= {"ps_weight": weight, "is_sgp_ps_numerator": True}
    state = read_checkpoint(held, optimizer.state_dict(), ours["step"])
    if gossip.algorithm.traits.sends_weight:
        state["gossips"] = _gossips(gossip.topology, ours["step"])
    if not _MEMORIES & ours["memories"].keys():
        return state
    layout, order = _Layout(gossip, ours), [name for name, _ in _order(model, optimizer)]
    first = float(optimizer.param_groups[0]["lr"])
    block = float(ours["numbers"].get("block_lr", first))
    if not first or not block:
        raise ConfigurationError("fairscale divides by the learning rate, which is 0; convert at another step")
    rates = [block * float(rate) / first for _, rate in _in_order(optimizer)]
    anchors = layout.collect(ours["memories"]["anchor"])
    anchor = torch.cat([anchors[name].flatten() for name in order])
    momentum = torch.zeros_like(anchor)
    if "slow_momentum" in ours["memories"]:
        moments = layout.collect(ours["memories"]["slow_momentum"])
        momentum = torch.cat([moments[name].flatten() / rate for name, rate in zip(order, rates, strict=True)])
    return state | _portion(momentum, anchor, gossip, num_shards)


@torch.no_grad()
def set_anchor(gossip: Gossip, model: nn.Module, optimizer: torch.optim.Optimizer, anchor: Tensor) -> None:
    """Let the block that is running have begun with another model. Every worker must call.

    Args:
        anchor: all parameters in the optimizer's order, in one vector.
    """
    ours = gossip.state_dict()
    parts = _cut(anchor, _order(model, optimizer))
    ours["memories"]["anchor"] = _Layout(gossip, ours).lay_out(parts, ours["parameters"])
    gossip.load_state_dict(ours)


_MEMORIES = {"slow_momentum", "anchor"}


def _portion(momentum: Tensor, anchor: Tensor, gossip: Gossip, num_shards: int | None) -> State:
    total = anchor.numel()
    shards = 1 if num_shards is None else min(gossip.world_size, num_shards)
    length = (total + shards - 1) // shards
    rank = 0 if num_shards is None else gossip.rank
    if rank >= shards:
        return {}
    start, end = rank * length, min((rank + 1) * length, total)
    state: State = dict(zip(_PORTION, (start, end, length), strict=True))
    for name, whole in (("global_momentum_buffer", momentum), ("old_params", anchor)):
        part = torch.zeros(length, dtype=whole.dtype)
        part[: max(end - start, 0)] = whole[start:end]
        state[name] = part
    return state | {"memory_efficient": num_shards is not None}


def _gossips(topology: Topology, step: int) -> int:
    """Return which of its graphs fairscale would use next, counted from 0."""
    if isinstance(topology, CountedGossips):
        return topology.gossips_before(step) % (topology.base.period or 1)
    return step % (topology.period or 1)


def _whole_vectors(gossip: Gossip, state: State) -> tuple[Tensor, Tensor] | None:
    """Return momentum and anchor in the optimizer's order, put together from the portions of all ranks."""
    own = {name: state[name] for name in ("global_momentum_buffer", "old_params", *_PORTION) if name in state}
    if own and not state["memory_efficient"]:
        everything = [own]
    else:
        everything = [each for each in gather_objects(own, gossip.waits.group) if each]
    if not everything:
        return None
    parts = [
        torch.cat([each[name][: max(each["portion_end"] - each["portion_start"], 0)] for each in everything])
        for name in ("global_momentum_buffer", "old_params")
    ]
    return parts[0], parts[1]


def _load_module(model: nn.Module, tensors: Mapping[str, Tensor], weight: float) -> None:
    own = {plain_name(name): value for name, value in model.state_dict().items()}
    for name in [*tensors, *own]:
        was, now = (tuple(which[name].shape) if name in which else None for which in (tensors, own))
        if was != now:
            raise ConfigurationError(f"the state is another model's: '{name}' is {was or 'missing'} in it, {now} here")
    trained = {plain_name(name) for name, _ in model.named_parameters()}
    for name, value in own.items():
        value.copy_(tensors[name] / weight if name in trained and weight != 1.0 else tensors[name])


def _order(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[tuple[str, torch.Size]]:
    """Return name and shape of every parameter in the optimizer's order."""
    names = {id(parameter): plain_name(name) for name, parameter in model.named_parameters()}
    return [(names[id(parameter)], parameter.shape) for parameter, _ in _in_order(optimizer)]


def _in_order(optimizer: torch.optim.Optimizer) -> Iterator[tuple[Tensor, float]]:
    """Yield every parameter in the optimizer's order, and its learning rate."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            yield parameter, group["lr"]


def _cut(vector: Tensor, order: list[tuple[str, torch.Size]]) -> dict[str, Tensor]:
    sizes = [shape.numel() for _, shape in order]
    return {name: part.view(shape) for (name, shape), part in zip(order, vector.split(sizes), strict=True)}


class _Layout:
    """Where parameters lie in the vectors of a state of ``Gossip``, which a node's workers hold in parts."""

    def __init__(self, gossip: Gossip, state: State) -> None:
        self._group = gossip.waits.group
        self._identity = state["identity"]
        if self._identity["layout"] is None:
            raise ConfigurationError("a model that FSDP2 has sharded has no counterpart in fairscale")
        size = self._identity["node_size"]
        self._node = range(gossip.rank // size * size, gossip.rank // size * size + size)
        self._rank = gossip.rank
        lengths = gather_objects([part.numel() for part in state["parameters"]], self._group)
        self._lengths = [lengths[rank] for rank in self._node]

    def lay_out(self, tensors: Mapping[str, Tensor], like: list[Tensor]) -> list[Tensor]:
        """Return this worker's part of the vectors that hold ``tensors``."""
        parts = []
        for piece, own in enumerate(like):
            lengths = [each[piece] for each in self._lengths]
            whole = torch.zeros(sum(lengths), dtype=own.dtype)
            for name, view in self._views(whole, piece):
                view.copy_(tensors[name])
            parts.append(whole.split(lengths)[self._rank - self._node.start].to(own.device))
        return parts

    def collect(self, parts: list[Tensor]) -> dict[str, Tensor]:
        """Return all tensors by name. Collective where nodes hold parts."""
        own = [part.cpu() for part in parts]
        every = gather_objects(own, self._group) if len(self._node) > 1 else {self._rank: own}
        wholes = [torch.cat([every[rank][piece] for rank in self._node]) for piece in range(len(own))]
        return {name: view.clone() for piece, whole in enumerate(wholes) for name, view in self._views(whole, piece)}

    def _views(self, whole: Tensor, piece: int) -> Iterator[tuple[str, Tensor]]:
        places = zip(self._identity["parameters"], self._identity["layout"], strict=True)
        for (name, shape, _), (of, offset, strides) in places:
            if of == piece:
                yield name, torch.as_strided(whole, shape, strides, offset)
