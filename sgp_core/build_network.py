"""From a model and the choices made for it to the shard that this worker gossips, and a network ready to carry it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from sgp_core.algorithms.base import Algorithm
from sgp_core.asynchronous.connect import connect
from sgp_core.asynchronous.link_faults import LinkFaults
from sgp_core.asynchronous.retransmission import retransmits
from sgp_core.compression import Codec
from sgp_core.distributed.model_shard import FlatModelShard, ModelShard
from sgp_core.distributed.node_group import NodeGroup
from sgp_core.elastic.group import ElasticGroup
from sgp_core.elastic.network import ElasticNetwork
from sgp_core.pacing import Pace
from sgp_core.pacing.graphs import graphs_of
from sgp_core.runtime.compressed.network import CompressedNetwork
from sgp_core.runtime.global_collectives import GlobalCollectives
from sgp_core.runtime.network import DistributedNetwork
from sgp_core.runtime.scheduled_network import ScheduledNetwork
from sgp_core.runtime.solo_network import SoloNetwork
from sgp_core.runtime.worker_network import WorkerNetwork
from sgp_core.tensors.flat_storage import FlatStorage
from sgp_core.topology import Topology
from sgp_core.transports.select import place_model


class Built(NamedTuple):
    """What gossips a model."""

    shard: ModelShard
    """The part of the model that this worker gossips."""
    network: WorkerNetwork
    """Nothing is in flight yet."""
    paced: ScheduledNetwork | None
    """The network at its pace, for rules to use; None where a round follows every step."""


def build_network(
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    *,
    algorithm: Algorithm,
    topology: Topology,
    node: NodeGroup,
    pace: Pace | None = None,
    compression: Codec | None = None,
    transport: str = "auto",
    record_events: bool = False,
    link_faults: LinkFaults | None = None,
    workers: GlobalCollectives | None = None,
    elastic: ElasticGroup | None = None,
) -> Built:
    """Move the parameters to flat memory, give all workers rank 0's model, and return what gossips it. Collective.

    Args:
        model: the module; all workers must have built it alike.
        parameters: its trainable ones.
        algorithm: decides which verbs the network has.
        topology: who sends to whom, of nodes where a node has several workers.
        node: this worker's node.
        pace: what follows each step; None: a round of gossip, or what the algorithm has in its place.
        compression: how messages are coded; None: not at all.
        transport: how they travel, by name.
        record_events: whether an asynchronous network records what was used when.
        link_faults: what happens to its messages; None: nothing.
        workers: collectives of all workers; None: those of the node's process groups.
        elastic: the members of an elastic run; None: workers are those of the process group, to the end.

    Raises:
        ConfigurationError: on all workers alike: models differ between workers, or the transport is not available.
    """
    if link_faults is not None:
        link_faults.check(algorithm, transport)
    workers = workers or GlobalCollectives(node)
    choices: dict[str, object] = {"algorithm": algorithm, "topology": (topology, topology.edges(0).out_peers)}
    choices |= {"pace": pace, "compression": compression, "transport": transport, "link_faults": link_faults}
    workers.check_alike(model, parameters[0].device, choices)
    network: DistributedNetwork | SoloNetwork | ElasticNetwork
    if elastic is not None:
        shard: ModelShard = FlatModelShard(FlatStorage(parameters), node)
        network = ElasticNetwork(topology, elastic, shard.flat)
        workers.set_alike(model, shard)
        return Built(shard, network, None)
    traits = algorithm.traits
    if traits.one_sided is not None:
        shard = FlatModelShard(FlatStorage(parameters), node)
        workers.set_alike(model, shard)
        connected = connect(
            traits.one_sided,
            topology,
            node.peers,
            shard.flat,
            transport,
            record_events=record_events,
            faults=link_faults,
            retransmits=retransmits(traits, link_faults),
        )
        return Built(shard, connected, None)
    graphs = graphs_of(topology, pace)
    in_flight = traits.steps_in_flight if compression is None else 0  # coded messages have memory of their own
    shard, carrier = place_model(model, parameters, transport, node, in_flight)
    workers.set_alike(model, shard)
    if carrier is None:
        network = SoloNetwork(graphs, node.peers, shard.flat, codes=compression is not None)
    elif compression is None:
        network = DistributedNetwork(graphs, node.peers, carrier)
    else:
        network = CompressedNetwork(graphs, node.peers, carrier, compression, shard.layout, shard.flat)
    if isinstance(network, DistributedNetwork):
        network.alike = True
    return Built(shard, network, None if pace is None else ScheduledNetwork(network, pace, shard.flat, node))
