"""The transports there are, by name: what each can serve, and where its implementation is. Imports without torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, TypeVar

from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from sgp_core.distributed.model_shard import ModelShard
    from sgp_core.distributed.node_group import NodeGroup
    from sgp_core.transports.base import Transport

K = TypeVar("K", bound="type[TransportKind]")

AUTO = "auto"
"""Asks for the first transport, in the order of their priorities, that is available."""


class HostCount(StrEnum):
    """How many hosts the workers of a transport may be on."""

    one = "one"
    several = "several"
    any = "any"


@dataclass(frozen=True)
class Placement:
    """What a transport is asked to carry.

    Attributes:
        model: the module whose parameters are to be exchanged.
        parameters: its trainable parameters.
        node: the node group of this worker; there are at least two nodes.
        steps_in_flight: for how many steps a pushed message may be under way.
    """

    model: nn.Module
    parameters: Sequence[nn.Parameter]
    node: NodeGroup
    steps_in_flight: int


class TransportKind(ABC):
    """What is known of a transport before any worker exists. Stable extension point.

    Register a subclass with :func:`register_transport`. What it declares lets a launcher refuse settings early;
    :meth:`place` has the last word.
    """

    name: ClassVar[str]
    """The name under which the transport is registered."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names that users may write."""
    summary: ClassVar[str]
    """One sentence on how vectors travel."""
    priority: ClassVar[int]
    """``auto`` tries the transport of the highest priority first; messages, which always work, have 0."""
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    """The devices on which parameters may be."""
    hosts: ClassVar[HostCount] = HostCount.any
    """How many hosts the workers may be on."""
    min_workers_per_host: ClassVar[int] = 1
    """How many workers a host must have."""
    node_groups: ClassVar[bool] = False
    """Whether it carries the shards of node groups and of sharded models."""
    asynchronous: ClassVar[bool] = False
    """Whether asynchronous algorithms may choose it."""

    def serves(self, devices: Sequence[str], hosts: int, workers_per_host: int, *, node_groups: bool = False) -> bool:
        """Return whether workers on these hosts can use it, on one of these devices, as far as it declares."""
        return (
            any(device in self.devices for device in devices)
            and self.hosts in (HostCount.any, HostCount.one if hosts == 1 else HostCount.several)
            and workers_per_host >= self.min_workers_per_host
            and (self.node_groups or not node_groups)
        )

    @abstractmethod
    def place(self, request: Placement) -> tuple[ModelShard, Transport]:
        """Move the parameters to memory that the transport can use; return both. Collective.

        Import the implementation here rather than at the top of the module.

        Raises:
            TransportUnavailable: on all workers alike, before anything has moved; says why.
        """


TRANSPORTS: Registry[TransportKind] = Registry("transport", "sgp_core.transports.*.kind", options=False)
"""Every kind of transport by name. A new one is one folder in this package, or a user's own module."""


def register_transport(name: str) -> Callable[[K], K]:
    """Class decorator: make a kind of transport known under ``name``. Stable extension point.

    Raises:
        ConfigurationError: by the decorator, if the name is taken.
    """

    def add(cls: K) -> K:
        cls.name = name
        TRANSPORTS.register(name)(cls)
        return cls

    return add


def transports_by_priority() -> list[TransportKind]:
    """Return every transport, in the order in which ``auto`` tries them."""
    kinds = [TRANSPORTS.get(name)() for name in TRANSPORTS.names()]
    return sorted(kinds, key=lambda kind: -kind.priority)


def find_transport(name: str) -> TransportKind:
    """Return the transport of this name or alias.

    Raises:
        ConfigurationError: there is none; the message suggests the nearest.
    """
    kinds = transports_by_priority()
    kind = next((kind for kind in kinds if kind.name == name), None)
    kind = kind or next((kind for kind in kinds if name in kind.aliases), None)
    if kind is None:
        raise ConfigurationError(f"unknown transport '{name}'{did_you_mean(name, [AUTO, *TRANSPORTS.names()])}")
    return kind


def canonical_transport_name(name: str) -> str:
    """Return the registered name for an alias; any other name as it is, whether registered or not."""
    return next((kind.name for kind in transports_by_priority() if name in kind.aliases), name)
