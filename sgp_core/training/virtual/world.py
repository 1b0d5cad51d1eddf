"""The world of virtual workers: the network between them, and how fast they compute. No part of the experiment."""

from __future__ import annotations

from dataclasses import dataclass

from sgp_core.clock import ComputationModel, NetworkModel, VirtualClock, traffic_of
from sgp_core.errors import ConfigurationError
from sgp_core.topology import Topology
from sgp_core.training.config import Experiment
from sgp_core.training.experiment import ExperimentParts
from sgp_core.training.virtual.limits import NETWORK_ALONE
from sgp_core.training.virtual.models import VirtualModels


@dataclass(frozen=True)
class VirtualWorld:
    """What the virtual clock is made of.

    Attributes:
        network: the links; None: messages take no time.
        computation: how long a step computes; None, without a network: there is no clock.

    Raises:
        ConfigurationError: a network without a computation.
    """

    network: NetworkModel | None = None
    computation: ComputationModel | None = None

    def __post_init__(self) -> None:
        if self.network is not None and self.computation is None:
            raise ConfigurationError(NETWORK_ALONE)

    def build_clock(
        self, experiment: Experiment, chosen: ExperimentParts, topology: Topology, models: VirtualModels
    ) -> VirtualClock | None:
        """Return the clock of an experiment; None if nothing was chosen.

        Raises:
            ConfigurationError: the network does not fit the number of workers.
        """
        if self.computation is None:
            return None
        traffic = traffic_of(
            chosen.algorithm,
            topology,
            model_bytes=models.z[0].nbytes,
            pace=chosen.pace,
            compression=chosen.compression,
            node_size=experiment.node_size,
            layout=[models.layout],
        )
        return VirtualClock(self.network, self.computation, traffic, experiment.world_size, experiment.seed)
