"""What real workers do in test_streaming.py: DiLoCo in fragments whose averages travel while they train."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import sgp_core
from sgp_core.algorithms import Algorithm
from sgp_core.algorithms.diloco import DiLoCo
from sgp_core.topology import Topology
from tests.workers.agreement import Case, batch, flatten, make_model, make_optimizer, train_here

TAU, FRAGMENTS, OVERLAP = 12, 4, 2
"""A fragment leaves every three steps and travels during two of them."""
STEPS = 29
"""Two blocks and a bit; what left after step 27 is still under way."""


INT8 = sgp_core.build_compression("int8")


@dataclass(frozen=True)
class InFragments(DiLoCo):
    """The rule with the machinery of fragments, even where there is one that all wait for."""

    @property
    def streams(self) -> bool:
        return True


def make_rule(base: str = "local_sgd", **options: Any) -> Algorithm:
    inner = sgp_core.build_algorithm(base, **({"period": 0} if base == "local_sgd" else {}))
    return sgp_core.build_outer("diloco", inner, **{"tau": TAU, "fragments": FRAGMENTS, "overlap": OVERLAP, **options})


def make_cases() -> list[Case]:
    """Rules that real workers and the simulator agree about."""
    four = sgp_core.build_topology("one_peer_exponential", world_size=4)
    pair = sgp_core.build_topology("one_peer_exponential", world_size=2)
    return [
        (make_rule(), four, "adamw", {}),
        (make_rule(pattern="sequential", mix=0.25), four, "sgd", {}),
        (make_rule("sgp", tau=11, fragments=3, overlap=0), four, "sgd", {}),
        (make_rule("osgp", fragments=1, overlap=5), four, "adamw", {"pace": sgp_core.build_pace("every", steps=2)}),
        (make_rule(), pair, "adamw", {"node_size": 2}),
        (make_rule(compression="int4"), four, "sgd", {}),
        (make_rule("sgp", compression="top_k", fraction=0.1, overlap=1), four, "adamw", {"compression": INT8}),
        (make_rule(compression="int8", fragments=1, overlap=0), pair, "sgd", {"node_size": 2}),
    ]


def whole() -> list[Tensor]:
    """Plain DiLoCo, as it is, and as one fragment that all wait for."""
    rule = make_rule(fragments=1, overlap=0)
    assert isinstance(rule, DiLoCo)
    topology = sgp_core.build_topology("complete", world_size=4)
    return [
        train_here(algorithm, topology, "adamw", STEPS)["z"] for algorithm in (rule, InFragments(rule.base, tau=TAU))
    ]


class Run:
    """A model in training."""

    def __init__(self, rule: Algorithm, topology: Topology | None = None, **options: Any) -> None:
        self.model = make_model()
        self.optimizer = make_optimizer(self.model.parameters(), "adamw")
        self.gossip = sgp_core.Gossip(self.model, self.optimizer, algorithm=rule, topology=topology, **options)

    def steps(self, until: int) -> list[int]:
        """Train; return the bytes that were sent in each step."""
        sent = []
        while self.gossip.step < until:
            before = self.gossip.bytes_sent
            inputs, targets = batch(self.gossip.rank, self.gossip.step)
            nn.functional.cross_entropy(self.model(inputs), targets).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            sent.append(self.gossip.bytes_sent - before)
        return sent

    def close(self) -> Tensor:
        self.gossip.close()
        return flatten(self.model)


def resumed(rule: Algorithm, folder: Path, at: int = 16) -> dict[str, Any]:
    """Train through, looking at averages on the way; and from a state that was saved while a fragment travels."""
    run, expected = Run(rule), Run(rule)
    expected.steps(STEPS)
    run.steps(at)
    under_way = len(run.gossip.state_dict()["means"])
    run.gossip.save(folder)
    with run.gossip.averaged():
        pass
    run.gossip.finish()
    run.steps(STEPS)
    other = Run(rule)
    other.steps(5)  # what was under way here is given up
    other.gossip.load(folder)
    other.steps(STEPS)
    sent = [one.gossip.bytes_sent for one in (expected, run, other)]
    models = [one.close() for one in (expected, run, other)]
    return {
        "under way": under_way,
        "same": [torch.equal(models[0], model) for model in models[1:]],
        "sent": sent,
    }


def reshaped(folder: Path) -> float:
    """Begin anew from the average of what was saved with a fragment under way; return how far two blocks lead."""
    run = Run(make_rule())
    run.gossip.load(folder, reshape=True)
    run.steps(run.gossip.step + 2 * TAU)
    return float(run.close().norm())


def everything(cases: list[Case], folder: Path) -> dict[str, Any]:
    """Do it all in one group of four workers."""
    found: dict[str, Any] = {"whole": whole(), "cases": []}
    for algorithm, topology, kind, options in cases:
        found["cases"].append(train_here(algorithm, topology, kind, STEPS, **options))
        dist.barrier()
    found["resumed"] = [
        resumed(make_rule(), folder / "a"),
        resumed(make_rule(compression="int4"), folder / "first half", at=15),
        resumed(make_rule(compression="int4"), folder / "second half", at=16),
    ]
    found["reshaped"] = reshaped(folder / "a")
    rules = {"whole": {"fragments": 1}, "fragments": {}, "int4": {"compression": "int4"}}
    found["sent"] = {}
    for name, options in rules.items():
        run = Run(make_rule(**options))
        found["sent"][name] = run.steps(2 * TAU)
        run.close()
    return found
