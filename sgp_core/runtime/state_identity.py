"""What a state belongs to: the worker that saved it, its rule, its graph, and the parameters of its model."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np
from torch import nn

from sgp_core.algorithms import ALGORITHMS, OUTERS, Algorithm, Outer
from sgp_core.algorithms.order import Order
from sgp_core.compression import COMPRESSIONS, Codec
from sgp_core.errors import ConfigurationError
from sgp_core.pacing import PACES, Pace
from sgp_core.registry import Registry
from sgp_core.tensors.flat_storage import FlatStorage
from sgp_core.topology import TOPOLOGIES, Topology

_RESHAPE = "gossip.load(folder, reshape=True) takes the average of a saved folder over"
_GRAPHS = 64
"""The longest period of which every graph is compared."""
_FIRST_GRAPHS = 16
"""How many are compared where graphs do not repeat, beside the options that they follow from."""
_DIGITS = 9
"""Mixing weights are compared to these decimal digits: machines round differently."""

Description = dict[str, Any]
"""Names, numbers, and lists and dicts of them."""


@dataclasses.dataclass(frozen=True)
class StateIdentity:
    """What a worker's state belongs to.

    How models travel and where steps are taken (``transport``, ``step_in_backward``) is no part of it: a run may be
    resumed with others.

    Args:
        rank, world_size, node_size: which worker, of how many.
        algorithm, topology, pace, compression: as ``Gossip`` has them.
        parameters: name, shape and dtype of each, in the order in which they lie in flat memory.
        layout: piece, offset and strides of each there; None where FSDP2 holds them.
    """

    rank: int
    world_size: int
    node_size: int
    algorithm: Algorithm
    topology: Topology
    pace: Pace | None
    compression: Codec | None
    parameters: list[list[Any]]
    layout: list[list[Any]] | None

    @cached_property
    def description(self) -> Description:
        """The identity as it is saved."""
        return {
            "rank": self.rank,
            "world_size": self.world_size,
            "node_size": self.node_size,
            "algorithm": _describe(self.algorithm, OUTERS if isinstance(self.algorithm, Outer) else ALGORITHMS),
            "topology": _describe_graphs(self.topology),
            "pace": _describe(self.pace, PACES),
            "compression": _describe(self.compression, COMPRESSIONS),
            "parameters": self.parameters,
            "layout": self.layout,
        }

    def check(self, saved: Mapping[str, Any]) -> None:
        """Refuse a state that was saved by another worker, or under other choices.

        Raises:
            ConfigurationError: with what was saved and what is being built.
        """
        ours = self.description
        self.check_world_size(saved["world_size"])
        if saved["node_size"] != self.node_size:
            raise ConfigurationError(
                f"the state was saved with node_size={saved['node_size']}, here it is {self.node_size}; {_RESHAPE}"
            )
        self.check_parameters(saved)
        self._check_layout(saved)
        traits = self.algorithm.traits
        communicates = self.topology.world_size > 1 and (traits.gossips or traits.asynchronous)
        for kind in ("algorithm", *(["topology"] if communicates else []), "pace", "compression"):
            compare = _compare_graphs if kind == "topology" else _compare
            theirs = _with_order(saved[kind]) if kind == "algorithm" else saved[kind]
            if different := compare(theirs, ours[kind]):
                raise ConfigurationError(
                    f"the state was saved with {kind} {different[0]}, Gossip is built with {different[1]}; build it as"
                    f" it was, or begin anew from the average: {_RESHAPE}"
                )
        if saved["rank"] != self.rank:
            raise ConfigurationError(
                f"the state is rank {saved['rank']}'s, this is rank {self.rank}: models differ from worker to worker,"
                " so each loads what it has saved itself, as gossip.save(folder) and gossip.load(folder) do"
            )

    def check_world_size(self, saved: int) -> None:
        """Refuse a state of another number of workers.

        Raises:
            ConfigurationError: with both numbers.
        """
        if saved != self.world_size:
            were, are = (f"{n} worker{'s' * (n != 1)}" for n in (saved, self.world_size))
            raise ConfigurationError(
                f"the state was saved by {were}, this run has {are}; {_RESHAPE} to another number of workers"
            )

    def check_parameters(self, saved: Mapping[str, Any]) -> None:
        """Refuse a state of other parameters.

        Raises:
            ConfigurationError: with the first that differs.
        """
        theirs = {name: (shape, dtype) for name, shape, dtype in saved["parameters"]}
        mine = {name: (shape, dtype) for name, shape, dtype in self.parameters}
        for name in [*theirs, *mine]:
            if theirs.get(name) != mine.get(name):
                was, now = (_in_words(which.get(name)) for which in (theirs, mine))
                raise ConfigurationError(
                    f"the state is another model's: its parameter '{name}' is {was}, this model's is {now}"
                )

    def _check_layout(self, saved: Mapping[str, Any]) -> None:
        if self.layout is None or saved["layout"] is None:
            if self.layout is not saved["layout"]:
                raise ConfigurationError("only one of the saved run and this one has its model sharded by FSDP2")
            return
        for (name, shape, _), theirs, mine in zip(self.parameters, saved["layout"], self.layout, strict=True):
            if _place(theirs, shape) != _place(mine, shape):
                raise ConfigurationError(
                    f"the state was saved on another device or in another memory format: '{name}' lies elsewhere; move"
                    f" and convert the model as it was, or {_RESHAPE}"
                )


def plain_name(name: str) -> str:
    """Return the name of a parameter or buffer as it is where the model is not compiled."""
    return name.replace("_orig_mod.", "")


def list_parameters(
    model: nn.Module, trainable: list[nn.Parameter], storage: FlatStorage | None
) -> tuple[list[list[Any]], list[list[Any]] | None]:
    """Return ``parameters`` and ``layout`` of :class:`StateIdentity`."""
    names = {id(parameter): plain_name(name) for name, parameter in model.named_parameters()}
    ordered = storage.parameters if storage else trainable[::-1]
    described = [[names[id(p)], list(p.shape), str(p.dtype).removeprefix("torch.")] for p in ordered]
    return described, [[piece, offset, list(strides)] for piece, offset, strides in storage.places] if storage else None


def _describe(part: Any, registry: Registry[Any]) -> Description | None:
    if part is None:
        return None
    options = {
        field.name: _plain(getattr(part, field.name))
        for field in dataclasses.fields(part)
        if field.metadata.get("option", True)
    }
    described: Description = {"name": registry.name_of(type(part)), "options": options}
    base = getattr(part, "base", None)
    if isinstance(base, Algorithm):
        described["base"] = _describe(base, OUTERS if isinstance(base, Outer) else ALGORITHMS)
    return described


def _describe_graphs(topology: Topology) -> Description:
    """Describe a topology by its mixing weights, too: two names may stand for one graph, and one name for many."""
    period = topology.period if topology.period is not None and topology.period <= _GRAPHS else None
    digest = hashlib.sha256()
    for step in range(period or _FIRST_GRAPHS if topology.world_size > 1 else 0):
        digest.update((np.round(topology.mixing_matrix(step), _DIGITS) + 0.0).tobytes())  # no -0.0
    return {**(_describe(topology, TOPOLOGIES) or {}), "period": period, "graphs": digest.hexdigest()}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str | None) else type(value).__name__


def _with_order(algorithm: Description) -> Description:
    """Return a description with the order of steps, which states did not name while there was only one."""
    if algorithm.get("base"):
        return {**algorithm, "base": _with_order(algorithm["base"])}
    return {**algorithm, "options": {"order": Order.adapt_then_combine.value, **algorithm["options"]}}


def _compare_graphs(saved: Description, ours: Description) -> tuple[str, str] | None:
    if (saved["period"], saved["graphs"]) == (ours["period"], ours["graphs"]):
        return None if saved["period"] else _compare(saved, ours)
    return _compare(saved, ours) or (saved["name"], f"another {ours['name']}")


def _compare(saved: Description | None, ours: Description | None) -> tuple[str, str] | None:
    """Return the two in words if they differ; an option that one of them does not know does not count."""
    if saved is None or ours is None or _name(saved) != _name(ours):
        return None if saved is ours else (_name(saved), _name(ours))
    common = [name for name in ours["options"] if name in saved["options"]]
    differing = [name for name in common if saved["options"][name] != ours["options"][name]]
    if differing:
        was, now = (", ".join(f"{name}={part['options'][name]}" for name in differing) for part in (saved, ours))
        return f"{ours['name']}({was})", f"{ours['name']}({now})"
    return _compare(saved.get("base"), ours.get("base"))


def _name(part: Description | None) -> str:
    if part is None:
        return "none"
    return f"{part['name']} over {_name(part['base'])}" if part.get("base") else str(part["name"])


def _place(place: list[Any], shape: list[int]) -> tuple[int, int, list[int]]:
    """Return where a parameter lies; the stride of a dimension of one element does not matter."""
    piece, offset, strides = place
    return piece, offset, [stride for stride, size in zip(strides, shape, strict=True) if size > 1]


def _in_words(parameter: tuple[list[int], str] | None) -> str:
    return "missing" if parameter is None else f"{parameter[0]} of {parameter[1]}"
