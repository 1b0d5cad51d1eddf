"""What a rule sends, to whom, and what it waits for: found by letting it run with nothing to compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sgp_core.algorithms.base import OneSided
from sgp_core.pacing.graphs import graphs_of
from sgp_core.pacing.target import Target
from sgp_core.pacing.threshold import Threshold
from sgp_core.tensors.layout import Layout, TensorLayout

if TYPE_CHECKING:
    from sgp_core.algorithms import Algorithm
    from sgp_core.compression import Codec
    from sgp_core.pacing import Pace
    from sgp_core.topology import Topology

_WEIGHT_BYTES = 8
_ELEMENT_BYTES = 4


@dataclass(frozen=True, eq=False)
class Traffic:
    """Who sends how much to whom when, and what it waits for.

    Attributes:
        algorithm: the rule, which :class:`sgp_core.clock.follow.Follower` lets run.
        topology: over the gossip nodes.
        model_bytes: of a whole vector, as exact averages send it.
        message_bytes: of one message of gossip, coded if it is coded, and its weight.
        pace: None for a round after every step.
        node_size: workers of a gossip node.
        step_in_backward: whether messages leave while gradients are computed.
        remarks: sentences on what cannot be known beforehand, and what is taken for it.
    """

    algorithm: Algorithm
    topology: Topology
    model_bytes: int
    message_bytes: int
    pace: Pace | None = None
    node_size: int = 1
    step_in_backward: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def workers(self) -> int:
        """Number of workers."""
        return self.topology.world_size * self.node_size

    @property
    def one_sided(self) -> OneSided | None:
        """How workers communicate that never wait for each other; None: they keep step."""
        return self.algorithm.traits.one_sided


def traffic_of(
    algorithm: Algorithm,
    topology: Topology,
    *,
    model_bytes: int,
    pace: Pace | None = None,
    compression: Codec | None = None,
    node_size: int = 1,
    step_in_backward: bool = False,
    layout: Layout | None = None,
) -> Traffic:
    """Return the traffic of a rule, wrapped in its outer if it has one.

    Args:
        algorithm: the rule.
        topology: over the gossip nodes.
        model_bytes: bytes of the parameters.
        pace: how often workers gossip; None for a round after every step.
        compression: the codec of messages; None for none.
        node_size: workers of a gossip node.
        step_in_backward: whether the optimizer's steps are taken inside backward.
        layout: of the model, which codecs that keep shapes need; None for one vector of float32.
    """
    message_bytes = model_bytes
    if compression is not None:
        vector = (TensorLayout.packed([(max(1, model_bytes // _ELEMENT_BYTES),)], "float32"),)
        message_bytes = compression.nbytes(layout if layout is not None else vector)
    if algorithm.leaves_one(topology):
        message_bytes += _WEIGHT_BYTES
    graphs = graphs_of(topology, pace) if pace is not None and not algorithm.traits.asynchronous else topology
    return Traffic(
        algorithm,
        graphs,
        model_bytes,
        message_bytes,
        pace,
        node_size,
        step_in_backward,
        tuple(_remarks(pace, compression, layout)),
    )


def _remarks(pace: Pace | None, compression: Codec | None, layout: Layout | None) -> list[str]:
    remarks = []
    if isinstance(pace, Threshold):
        remarks.append(
            "pace=threshold: how often workers are farther apart than the threshold cannot be known beforehand; taken"
            " as never"
        )
    elif isinstance(pace, Target):
        remarks.append(
            "pace=target: how many rounds hold the distance cannot be known beforehand; taken as one after every step"
        )
    if compression is not None and compression.keeps_shapes and layout is None:
        remarks.append("the codec works on matrices; without the layout of the model it is taken as one vector")
    return remarks
