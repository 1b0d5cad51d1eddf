"""The choices of a network and of a computation, as plans hold them: ``{"name": ..., options...}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sgp_core.clock.computation import COMPUTATIONS, build_computation
from sgp_core.clock.network import NETWORKS, build_network_model
from sgp_core.clock.wiring import Wiring

_NOTHING = "none"


def with_content(group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a choice with what it reads from files, so that whoever has the plan needs no file.

    Raises:
        ConfigurationError: a file cannot be read, or a value is out of range.
    """
    name, options = values["name"], {key: value for key, value in values.items() if key != "name"}
    if name == _NOTHING:
        return dict(values)
    if group == "network":
        return {"name": name, **NETWORKS.build(name, **options).with_content()}
    return COMPUTATIONS.build(name, **options).options()


def check_clock(network: Mapping[str, Any], computation: Mapping[str, Any], workers: int) -> None:
    """Refuse a network or a computation that these workers cannot have.

    Raises:
        ConfigurationError: it names a host, a worker or regions that there are not.
    """
    if (links := build_network_model(network)) is not None:
        Wiring(links, workers)
    if (times := build_computation(computation)) is not None:
        times.seconds(0, workers, 0)
