"""What real workers do in test_heterogeneous.py: all of it in every worker of one gloo group."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import sgp_core
from sgp_core.algorithms import Algorithm
from sgp_core.topology import Topology
from tests.workers.agreement import Irregular, batch, flatten, make_algorithm, make_model, make_optimizer, train_here
from tests.workers.backward_steps import Case, train

STEPS = 12


def cases() -> dict[str, Case]:
    regular = sgp_core.build_topology("one_peer_exponential", world_size=4)
    ring = sgp_core.build_topology("ring", world_size=4)
    tree = sgp_core.build_topology("spanning_tree", world_size=4)
    build = sgp_core.build_algorithm
    return {
        "qg_dsgdm": (build("qg_dsgdm", nesterov=True), regular, "plain", {}),
        "decentlam": (build("decentlam"), ring, "plain", {}),
        "d2": (build("d2", lazy=True, recentre_every=5), tree, "sgd", {}),
        "gossip_pga": (build("gossip_pga", period=5, overlap_steps=2), Irregular(4), "sgd", {}),
        "gossip_pga, awc": (build("gossip_pga", period=5, order="awc"), Irregular(4), "sgd", {}),
        "relaysgd": (build("relaysgd"), tree, "adamw", {}),
        "gradient_tracking": (build("gradient_tracking"), Irregular(4), "sgd", {}),
        "gradient_tracking, awc": (build("gradient_tracking", order="awc"), regular, "adamw", {}),
        "noloco": (sgp_core.build_outer("noloco", build("local_sgd", period=0), tau=4), regular, "adamw", {}),
    }


def of_nodes() -> dict[str, tuple[Algorithm, Topology, str]]:
    """Rules between two nodes of two workers each."""
    build = sgp_core.build_algorithm
    pair = sgp_core.build_topology("spanning_tree", world_size=2)
    return {
        "qg_dsgdm": (make_algorithm("qg_dsgdm"), pair, "plain"),
        "gradient_tracking": (make_algorithm("gradient_tracking"), pair, "sgd"),
        "gradient_tracking, awc": (build("gradient_tracking", order="awc"), pair, "sgd"),
        "relaysgd": (make_algorithm("relaysgd"), pair, "sgd"),
        "noloco": (make_algorithm("local_sgd", "noloco"), pair, "sgd"),
    }


def accumulated(parts: int) -> Any:
    """Train by gradient tracking, gradients computed in so many parts; return the model."""
    model = make_model()
    optimizer = make_optimizer(model.parameters())
    gossip = sgp_core.Gossip(
        model, optimizer, algorithm=make_algorithm("gradient_tracking"), topology=Irregular(4), transport="p2p"
    )
    for step in range(8):
        inputs, targets = batch(gossip.rank, step)
        halves = list(zip(inputs.chunk(parts), targets.chunk(parts), strict=True))
        with gossip.no_sync():
            for some, wanted in halves[:-1]:
                (nn.functional.cross_entropy(model(some), wanted) / parts).backward()
        some, wanted = halves[-1]
        (nn.functional.cross_entropy(model(some), wanted) / parts).backward()
        if step == 5:  # a step that is given up, as after an overflow
            optimizer.zero_grad()
            continue
        gossip.clip_grad_norm_(0.5)
        optimizer.step()
        optimizer.zero_grad()
    gossip.close()
    return flatten(model)


def rarely_used() -> Any:
    """Track gradients of a parameter that only rank 0 uses; return it after each step."""
    model = nn.ParameterDict({"all": nn.Parameter(torch.ones(2)), "one": nn.Parameter(torch.zeros(3))}).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=0.1)
    gossip = sgp_core.Gossip(model, optimizer, algorithm=make_algorithm("gradient_tracking"), topology=Irregular(4))
    found = []
    for _ in range(8):
        loss = model["all"].square().sum()
        if gossip.rank == 0:
            loss = loss + (model["one"] - 1.0).square().sum() / 2
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(model["one"].detach().clone())
    gossip.close()
    return torch.stack(found)


def work() -> dict[str, Any]:
    ways: dict[str, dict[str, Any]] = {}
    for name, case in cases().items():
        found = ways[name] = {"after": train(case, "p2p", False, STEPS)}
        dist.barrier()
        if case[0].traits.reads_gradients or case[0].traits.sends_ahead:
            found["resumed"] = train(case, "p2p", False, STEPS, stop=STEPS // 2, turn=False)
        else:
            found["inside"] = train(case, "shared_memory", True, STEPS)
            found["resumed"] = train(case, "p2p", False, STEPS, stop=STEPS // 2)
        dist.barrier()
    nodes = {}
    for name, (algorithm, topology, kind) in of_nodes().items():
        nodes[name] = train_here(algorithm, topology, kind, STEPS, node_size=2, shard_optimizer=True)
        dist.barrier()
    return {
        "ways": ways,
        "nodes": nodes,
        "accumulated": [accumulated(parts) for parts in (1, 2)],
        "rarely used": rarely_used(),
    }
