"""Networks that come with the package: usual values, of which every option can be set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sgp_core.clock.network import NETWORKS, CollectiveKind, NetworkModel


@NETWORKS.register("loopback")
@dataclass(frozen=True)
class Loopback(NetworkModel):
    """All workers on one host of two cores, over gloo: what moves bytes is the processor."""

    workers_per_host: int = 0
    inside_mbit: float | None = 26_000.0
    inside_delay_ms: float = 0.05
    message_mbit: float | None = 17_600.0
    payload: float = 1.0


@NETWORKS.register("ethernet_1g")
@dataclass(frozen=True)
class Ethernet1G(NetworkModel):
    """Hosts on 1 Gbit/s Ethernet."""

    bandwidth_mbit: float | None = 1_000.0
    delay_ms: float = 0.1


@NETWORKS.register("ethernet_10g")
@dataclass(frozen=True)
class Ethernet10G(NetworkModel):
    """Hosts on 10 Gbit/s Ethernet."""

    bandwidth_mbit: float | None = 10_000.0
    delay_ms: float = 0.05


@NETWORKS.register("infiniband_100g")
@dataclass(frozen=True)
class InfiniBand100G(NetworkModel):
    """Hosts on 100 Gbit/s InfiniBand, with NCCL's trees."""

    bandwidth_mbit: float | None = 100_000.0
    delay_ms: float = 0.002
    payload: float = 0.97
    collective: CollectiveKind = CollectiveKind.tree


@NETWORKS.register("two_regions")
@dataclass(frozen=True)
class TwoRegions(NetworkModel):
    """Two halves on 10 Gbit/s Ethernet, with 1 Gbit/s and 20 ms between them."""

    bandwidth_mbit: float | None = 10_000.0
    delay_ms: float = 0.05
    regions: list[Any] | None = field(
        default_factory=lambda: [
            {"bandwidth_mbit": 1_000.0, "delay_ms": 10.0},
            {"bandwidth_mbit": 1_000.0, "delay_ms": 10.0},
        ]
    )


@NETWORKS.register("home_internet")
@dataclass(frozen=True)
class HomeInternet(NetworkModel):
    """Workers at home: 100 Mbit/s down, 20 up, 30 ms from each to each, one packet in a thousand lost."""

    bandwidth_mbit: float | None = 100.0
    up_mbit: float | None = 20.0
    delay_ms: float = 30.0
    loss: float = 0.001
