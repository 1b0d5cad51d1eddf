"""What a rule sends, to whom, and what it waits for: found by letting it run with nothing to compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sgp_core.algorithms.allreduce import AllReduce
from sgp_core.algorithms.base import ALGORITHMS
from sgp_core.algorithms.dpsgd import DPSGD
from sgp_core.algorithms.local_sgd import LocalSGD
from sgp_core.clock.follow import Follower
from sgp_core.clock.traffic import Traffic
from sgp_core.errors import ConfigurationError
from sgp_core.pacing.graphs import graphs_of
from sgp_core.pacing.target import Target
from sgp_core.pacing.threshold import Threshold
from sgp_core.tensors.layout import Layout, TensorLayout
from sgp_core.validation import require

if TYPE_CHECKING:
    from sgp_core.algorithms import Algorithm
    from sgp_core.compression import Codec
    from sgp_core.pacing import Pace
    from sgp_core.topology import Topology

_WEIGHT_BYTES = 8
_ELEMENT_BYTES = 4


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
    buckets: Sequence[int] = (),
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
        buckets: for ``allreduce``, as torch's DDP does it: bytes of the parts in which gradients are averaged while
            backward runs; see :func:`sgp_core.clock.gradient_buckets`. Empty: when it is over.
        layout: of the model, which codecs that keep shapes need; None for one vector of float32.

    Raises:
        ConfigurationError: the topology counts epochs, and does not know their length; or the buckets are not those of
            the gradients of an AllReduce.
    """
    if buckets:
        require(
            isinstance(algorithm, AllReduce), "the algorithm whose gradients leave in buckets", "allreduce", algorithm
        )
        require(
            sum(buckets) == model_bytes, "the bytes of all buckets", f"those of the model, {model_bytes}", sum(buckets)
        )
    message_bytes = model_bytes
    if compression is not None:
        vector = (TensorLayout.packed([(max(1, model_bytes // _ELEMENT_BYTES),)], "float32"),)
        message_bytes = compression.nbytes(layout if layout is not None else vector)
    if algorithm.leaves_one(topology):
        message_bytes += _WEIGHT_BYTES
    paced = pace is not None and not algorithm.traits.asynchronous
    graphs = graphs_of(topology, pace) if paced else topology
    remarks = tuple(_remarks(pace, compression, layout))
    traffic = Traffic(
        algorithm, graphs, model_bytes, message_bytes, pace, node_size, step_in_backward, tuple(buckets), remarks
    )
    return traffic if algorithm.traits.asynchronous else _followed(traffic)


def _followed(traffic: Traffic) -> Traffic:
    """Return the traffic, or that of plain gossip where a rule of a user's own needs more than its network to run."""
    try:
        Follower(traffic).acts()
        return traffic
    except ConfigurationError:
        raise
    except Exception as error:
        name = ALGORITHMS.name_of(type(traffic.algorithm))
        remark = (
            f"algorithm '{name}': what it sends could not be found by letting it run without tensors"
            f" ({type(error).__name__}: {error}); taken as one message along each edge after every step"
        )
        rule = DPSGD() if traffic.algorithm.traits.gossips else LocalSGD(period=0)
        return replace(traffic, algorithm=rule, remarks=(*traffic.remarks, remark))


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
