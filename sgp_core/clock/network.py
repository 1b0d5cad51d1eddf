"""What a network is: the links of hosts and regions, and what a message costs beside them."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sgp_core.bounds import between
from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.registry import Registry
from sgp_core.validation import one_of, require

NETWORKS: Registry[NetworkChoice] = Registry("network", "sgp_core.clock")
"""Every network by name. A network of a user's own is a dataclass that derives from :class:`NetworkModel`."""

_POSITIVE = between(1e-6, 1e12)
_TIME = between(0, 1e9)
_BYTES_PER_MBIT = 1e6 / 8


@dataclass(frozen=True)
class Link:
    """One direction of a wire.

    Attributes:
        bandwidth_mbit: Mbit/s, framing included.
        delay_ms: one way, in ms.
    """

    bandwidth_mbit: float = math.inf
    delay_ms: float = 0.0


@dataclass(frozen=True)
class Region:
    """Hosts behind a link that they share towards all others.

    Attributes:
        hosts: how many; None: its even share of those left.
        up: the shared link out of the region; its delay is added to that of the hosts.
        down: the shared link into it.
    """

    hosts: int | None
    up: Link
    down: Link


class CollectiveKind(str, Enum):
    """How an AllReduce is made."""

    ring = "ring"
    """A part goes around the ring twice: ``2 (n - 1)`` messages of ``M / n`` bytes, one after another (gloo)."""
    tree = "tree"
    """Parts flow up and down two binary trees: the same bytes, ``2 ceil(log2 n)`` delays (NCCL)."""


_LINK = ("bandwidth_mbit", "up_mbit", "delay_ms")


class NetworkChoice(ABC):
    """What can be chosen as a network. Fields are the options.

    Stable extension point.
    """

    @abstractmethod
    def model(self) -> NetworkModel:
        """Return the network."""

    def with_content(self) -> dict[str, Any]:
        """Return the fields that say all of it, what was read from files included."""
        return {entry.name: _plain(getattr(self, entry.name)) for entry in dataclasses.fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class NetworkModel(NetworkChoice):
    """Hosts, each with a link of its own, and what else there is between them. Fields are the options.

    Stable extension point.

    Attributes:
        bandwidth_mbit: Mbit/s of each host's link, down, and up unless ``up_mbit`` says else. None: no limit.
        up_mbit: Mbit/s out of a host. None: the same as into it.
        delay_ms: one way between two hosts, ms.
        hosts: links of single hosts, by their number: ``{3: {bandwidth_mbit: 10, up_mbit: 5, delay_ms: 20}}``.
        pairs: wires of their own from a host to another: ``{"0-3": {bandwidth_mbit: 10, delay_ms: 80}}``, both ways.
        regions: groups of hosts that share a link to all others:
            ``[{hosts: 4, bandwidth_mbit: 100, up_mbit: 50, delay_ms: 20}, ...]``; without ``hosts``, an even share.
        workers_per_host: consecutive ranks that share a host, and its link. 0: all workers share one.
        inside_mbit: Mbit/s of what joins the workers of a host, in all. None: no limit.
        inside_delay_ms: one way between two workers of a host, ms.
        message_mbit: the most that a single message gets, being one connection or one thread. None: no limit.
        payload: share of a link's bits that are not headers; 0.957 for TCP over Ethernet.
        rendezvous: whether a message waits for its receiver's word that it is ready, which takes a delay (gloo does).
        cpu_ms_per_message: time that a message costs its sender, and its receiver, ms.
        cpu_ms_per_mb: processor time that a megabyte costs at either end, ms: a host moves no more than its ``cores``
            allow.
        cores: of a host, for that.
        busy_speed: speed of a worker's computation while its messages travel, 1 being that when none do.
        collective: how an AllReduce is made.
        collective_speed: of the bytes of a collective, which are added besides, 1 being that of messages.
        collective_delay_ms: of each step of a collective, in all, ms. None: as that of a message.
        loss: share of packets that are lost and sent again.
    """

    bandwidth_mbit: float | None = field(default=None, metadata=_POSITIVE)
    up_mbit: float | None = field(default=None, metadata=_POSITIVE)
    delay_ms: float = field(default=0.0, metadata=_TIME)
    hosts: dict[Any, Any] | None = None
    pairs: dict[str, Any] | None = None
    regions: list[Any] | None = None
    workers_per_host: int = field(default=1, metadata=between(0))
    inside_mbit: float | None = field(default=None, metadata=_POSITIVE)
    inside_delay_ms: float = field(default=0.0, metadata=_TIME)
    message_mbit: float | None = field(default=None, metadata=_POSITIVE)
    payload: float = field(default=0.957, metadata=between(1e-3, 1))
    rendezvous: bool = True
    cpu_ms_per_message: float = field(default=0.0, metadata=_TIME)
    cpu_ms_per_mb: float = field(default=0.0, metadata=_TIME)
    cores: int = field(default=1, metadata=between(1))
    busy_speed: float = field(default=1.0, metadata=between(1e-3, 1))
    collective: CollectiveKind = CollectiveKind.ring
    collective_speed: float = field(default=1.0, metadata=between(1e-3, 1e3))
    collective_delay_ms: float | None = field(default=None, metadata=_TIME)
    loss: float = field(default=0.0, metadata=between(0, 0.5))

    def __post_init__(self) -> None:
        object.__setattr__(self, "collective", one_of(CollectiveKind, "network.collective", self.collective))
        for name in ("bandwidth_mbit", "up_mbit", "inside_mbit", "message_mbit"):
            value = getattr(self, name)
            require(value is None or 0 < value < math.inf, f"network.{name}", "positive or null", value)
        require(0 < self.payload <= 1, "network.payload", "above 0 and at most 1", self.payload)
        require(0 < self.collective_speed < math.inf, "network.collective_speed", "positive", self.collective_speed)
        require(0 < self.busy_speed <= 1, "network.busy_speed", "above 0 and at most 1", self.busy_speed)
        require(0 <= self.loss <= 0.5, "network.loss", "a share from 0 to 0.5", self.loss)
        for name in ("delay_ms", "inside_delay_ms", "cpu_ms_per_message", "cpu_ms_per_mb", "collective_delay_ms"):
            value = getattr(self, name) or 0.0
            require(0 <= value < math.inf, f"network.{name}", "zero or more, and finite", value)
        for host, links in (self.hosts or {}).items():
            require(str(host).isdecimal(), "network.hosts: a host", "a number from 0", host)
            _check_links(f"network.hosts: {host}", links)
        for pair, links in (self.pairs or {}).items():
            _check_links(f"network.pairs: {pair}", links)
            ends_of(pair)
        for region in self.regions or ():
            _check_links("network.regions", region, more=("hosts",))
        if self.hosts is not None:
            object.__setattr__(self, "hosts", {str(host): links for host, links in self.hosts.items()})

    # -- as plain data -----------------------------------------------------------------------------------------------
    @classmethod
    def from_options(cls, values: Mapping[str, Any]) -> NetworkModel:
        """Return the network of ``{"name": ..., options...}``, as a plan holds it; without a name a plain one.

        Raises:
            ConfigurationError: an unknown name or option, or a value out of range.
        """
        options = {key: value for key, value in values.items() if key != "name"}
        name = values.get("name")
        return NETWORKS.build(name, **options).model() if name else _build_plain(options)

    def options(self) -> dict[str, Any]:
        """Return the plain data from which :meth:`from_options` makes the same network."""
        known = NETWORKS.names()
        name = NETWORKS.name_of(type(self))
        values: dict[str, Any] = {"name": name} if name in known else {}
        return values | self.with_content()

    def model(self) -> NetworkModel:
        """Return itself."""
        return self

    # -- what follows from it ----------------------------------------------------------------------------------------
    def up(self, host: int) -> Link:
        """Return the link out of a host."""
        return _link((self.hosts or {}).get(str(host), {}), self, up=True)

    def down(self, host: int) -> Link:
        """Return the link into a host."""
        return _link((self.hosts or {}).get(str(host), {}), self, up=False)

    def pair(self, sender: int, receiver: int) -> Link | None:
        """Return the wire of its own from a host to another; None if they have none."""
        for pair, links in (self.pairs or {}).items():
            ends = ends_of(pair)
            if (sender, receiver) in (ends, ends[::-1]):
                return _link(links, None, up=(sender, receiver) == ends)
        return None

    def regions_of(self, hosts: int) -> list[Region]:
        """Return the regions with their numbers of hosts, which sum to ``hosts``; none where there are no regions.

        Raises:
            ConfigurationError: they do not.
        """
        found = [
            Region(region.get("hosts"), _link(region, None, up=True), _link(region, None, up=False))
            for region in self.regions or ()
        ]
        left = hosts - sum(region.hosts or 0 for region in found)
        open_ones = [at for at, region in enumerate(found) if region.hosts is None]
        for place, at in enumerate(open_ones):
            share = left * (place + 1) // len(open_ones) - left * place // len(open_ones)
            found[at] = dataclasses.replace(found[at], hosts=share)
        sizes = [region.hosts or 0 for region in found]
        if found and (sum(sizes) != hosts or min(sizes) < 1):
            raise ConfigurationError(
                f"network.regions: {len(found)} regions of {' + '.join(map(str, sizes))} hosts, but there are {hosts}"
            )
        return found

    def bytes_per_s(self, mbit: float | None) -> float:
        """Return what a link of so many Mbit/s carries of messages: headers and packets sent again are taken off."""
        return math.inf if mbit is None else mbit * _BYTES_PER_MBIT * self.payload * (1.0 - self.loss)


def build_network_model(values: Mapping[str, Any]) -> NetworkModel | None:
    """Return the network of a choice ``{"name": ..., options...}``; None for the choice ``none``.

    Raises:
        ConfigurationError: an unknown name or option, or a value out of range.
    """
    return None if values.get("name") == "none" else NetworkModel.from_options(values)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def ends_of(pair: str) -> tuple[int, int]:
    """Return the two hosts of a pair such as ``"0-3"``.

    Raises:
        ConfigurationError: it is none.
    """
    first, _, second = pair.partition("-")
    if not (first.strip().isdecimal() and second.strip().isdecimal()) or int(first) == int(second):
        raise ConfigurationError(f"network.pairs: a pair is two hosts such as 0-3, not {pair}")
    return int(first), int(second)


def _build_plain(options: Mapping[str, Any]) -> NetworkModel:
    known = {entry.name for entry in dataclasses.fields(NetworkModel)}
    for option in options:
        if option not in known:
            raise ConfigurationError(f"network has no option '{option}'{did_you_mean(option, known)}")
    return NetworkModel(**options)


def _link(links: Mapping[str, Any], usual: NetworkModel | None, *, up: bool) -> Link:
    """Return one direction of ``links``, whose absent options are those of ``usual``."""

    def value(name: str) -> Any:
        return links.get(name, getattr(usual, name) if usual is not None else None)

    both = value("bandwidth_mbit")
    if not up:
        mbit = both
    elif "up_mbit" in links or "bandwidth_mbit" not in links:
        mbit = value("up_mbit") if value("up_mbit") is not None else both
    else:
        mbit = both
    return Link(math.inf if mbit is None else float(mbit), float(value("delay_ms") or 0.0))


def _check_links(where: str, links: Any, more: tuple[str, ...] = ()) -> None:
    known = (*_LINK, *more)
    require(isinstance(links, Mapping), where, f"options such as {{{known[0]}: 100}}", links)
    for option, value in links.items():
        if option not in known:
            raise ConfigurationError(f"{where} has no option '{option}'{did_you_mean(str(option), known)}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if option == "delay_ms":
            require(is_number and 0 <= value < math.inf, f"{where}: {option}", "zero or more, and finite", value)
        else:
            require(value is None or (is_number and 0 < value < math.inf), f"{where}: {option}", "positive", value)
