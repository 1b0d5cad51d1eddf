"""Stochastic Gradient Push: decentralised data-parallel training by PushSum gossip.

Names are imported on first use, so that reading options, topologies and rules never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgp_core.algorithms import Algorithm, Outer, build_algorithm, build_outer
    from sgp_core.asynchronous.link_faults import LinkFaults
    from sgp_core.averaging import Average, average, average_simulated
    from sgp_core.checkpoint_files import CheckpointError
    from sgp_core.compression import Codec, build_compression
    from sgp_core.errors import ConfigurationError
    from sgp_core.gossip import Gossip
    from sgp_core.nonfinite import NotFinite
    from sgp_core.pacing import build_pace
    from sgp_core.simulator.asynchronous import replay
    from sgp_core.simulator.simulate import simulate
    from sgp_core.topology import Topology, build_topology

_HOME = {
    "Algorithm": "sgp_core.algorithms",
    "Average": "sgp_core.averaging",
    "CheckpointError": "sgp_core.checkpoint_files",
    "Codec": "sgp_core.compression",
    "ConfigurationError": "sgp_core.errors",
    "Gossip": "sgp_core.gossip",
    "LinkFaults": "sgp_core.asynchronous.link_faults",
    "NotFinite": "sgp_core.nonfinite",
    "Outer": "sgp_core.algorithms",
    "Topology": "sgp_core.topology",
    "average": "sgp_core.averaging",
    "average_simulated": "sgp_core.averaging",
    "build_algorithm": "sgp_core.algorithms",
    "build_compression": "sgp_core.compression",
    "build_outer": "sgp_core.algorithms",
    "build_pace": "sgp_core.pacing",
    "build_topology": "sgp_core.topology",
    "replay": "sgp_core.simulator.asynchronous",
    "simulate": "sgp_core.simulator.simulate",
}

__all__ = [
    "Algorithm",
    "Average",
    "CheckpointError",
    "Codec",
    "ConfigurationError",
    "Gossip",
    "LinkFaults",
    "NotFinite",
    "Outer",
    "Topology",
    "average",
    "average_simulated",
    "build_algorithm",
    "build_compression",
    "build_outer",
    "build_pace",
    "build_topology",
    "replay",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sgp_core' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
