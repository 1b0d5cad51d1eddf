"""The network of a world of one, without peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor

from sgp_core.runtime.worker_network import WorkerNetwork
from sgp_core.tensors.flat_vector import FlatVector, Scalar
from sgp_core.topology import Topology


class SoloNetwork(WorkerNetwork):
    """What :class:`sgp_core.algorithms.Network` describes, for a worker without peers: every verb is the identity.

    Args:
        topology: a graph of one worker.
        group: the process group of this worker, None for the default one or for no torch.distributed.
        like: a vector of the model's layout.
        codes: whether messages would be coded, if there were any.
    """

    def __init__(
        self, topology: Topology, group: dist.ProcessGroup | None, like: FlatVector, *, codes: bool = False
    ) -> None:
        super().__init__(topology, group)
        self.codes = codes
        self._like = like
        self._scratch: FlatVector | None = None

    @property
    def transport_name(self) -> None:
        """None: nothing travels."""
        return None

    # -- verbs -------------------------------------------------------------------------------------------------------
    def post(self, x: FlatVector, step: int, weight: Scalar | None = None) -> None:
        """Do nothing."""

    def mix(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Leave ``x`` as it is; return its weight, 1 if None."""
        return 1.0 if weight is None else weight

    def post_ahead(self, z: FlatVector, step: int, weight: Scalar | None = None) -> None:
        """Do nothing."""

    def combine(self, z: FlatVector, step: int, weight: Scalar | None = None, *, apart: bool) -> Scalar:
        """Leave ``z`` as it is; return its weight, 1 if None."""
        return 1.0 if weight is None else weight

    def complete(self, x: FlatVector, step: int, weight: Scalar | None = None) -> Scalar:
        """Leave ``x`` as it is; return its weight, 1 if None."""
        return 1.0 if weight is None else weight

    def push(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Leave ``x`` as it is; return its weight."""
        return weight

    def pull(self, x: FlatVector, step: int, weight: Scalar) -> Scalar:
        """Leave ``x`` as it is; return its weight."""
        return weight

    def drain(self, x: FlatVector, weight: Scalar) -> Scalar:
        """Leave ``x`` as it is; return its weight."""
        return weight

    def scratch(self) -> FlatVector:
        """Return memory laid out like the model, made when it is first asked for."""
        if self._scratch is None:
            self._scratch = self._like.zeros_like()
        return self._scratch

    def share(self, tables: Tensor, step: int) -> Tensor:
        """Return no tensor: there are no in-peers."""
        return tables.new_zeros(0, *tables.shape)

    def mix_along(self, x: FlatVector, topology: Topology, step: int) -> None:
        """Leave ``x`` as it is."""

    def swap(self, outgoing: Sequence[FlatVector], incoming: Sequence[FlatVector], step: int) -> None:
        """Do nothing: there are no in-peers."""

    def in_degree(self, step: int) -> int:
        """Return 0."""
        return 0

    # -- messages in flight --------------------------------------------------------------------------------------------
    @property
    def in_flight(self) -> bool:
        """False."""
        return False

    def keep_in_flight(self) -> Callable[[], None]:
        """Return what does nothing."""
        return self.forget_in_flight

    def forget_in_flight(self) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs; a codec would have remembered nothing of peers."""
        return {**super().state_dict(), **({"references": {}} if self.codes else {})}
