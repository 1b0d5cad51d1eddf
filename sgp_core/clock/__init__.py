"""A virtual clock: how long steps would take on a given network, for workers that compute at a given speed.

What a rule sends is found by letting it run, with a network that only notes what it is asked for
(:mod:`sgp_core.clock.rule_traffic`). The clock then says when each worker would be done: see docs/clock.md for the
equations. Imports without torch.
"""

from sgp_core.clock.clock import VirtualClock
from sgp_core.clock.computation import BACKWARD, COMPUTATIONS, ComputationModel, build_computation
from sgp_core.clock.gradient_buckets import gradient_buckets
from sgp_core.clock.network import NETWORKS, Link, NetworkModel, build_network_model
from sgp_core.clock.prediction import Prediction, predict
from sgp_core.clock.rule_traffic import traffic_of
from sgp_core.clock.traffic import Traffic
from sgp_core.clock.turns import Arrival, Turn

__all__ = [
    "BACKWARD",
    "COMPUTATIONS",
    "NETWORKS",
    "Arrival",
    "ComputationModel",
    "Link",
    "NetworkModel",
    "Prediction",
    "Traffic",
    "Turn",
    "VirtualClock",
    "build_computation",
    "build_network_model",
    "gradient_buckets",
    "predict",
    "traffic_of",
]
