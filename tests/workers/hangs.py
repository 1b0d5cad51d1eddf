"""Workers of which one is stalled or stopped, at a place that a seed decides: what the others say of it."""

from __future__ import annotations

import json
import os
import random
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from sgp_core import Gossip
from sgp_core.errors import WorkerHung
from sgp_core.faults import FaultInjector
from sgp_core.watchdog import Watchdog
from tests.support.hosts import on_hosts
from tests.workers.agreement import make_algorithm

WORKERS = 4
PATIENCE_S = 4.0
INTERVAL_S = 0.1
STEPS = 10_000
PHASES = {
    "start": "forward",
    "backward": "backward",
    "step": "optimizer step",
    "end": "data loading",
    "evaluation": "evaluation",
    "checkpoint": "checkpoint",
}
"""What a worker does where a fault strikes it."""
ALGORITHMS = ("sgp", "osgp", "dpsgd", "local_sgd", "allreduce", "asgp", "adpsgd", "d2", "gradient_tracking")
TOPOLOGIES = {"adpsgd": "alternating_ring", "d2": "complete"}
"""Of those that do not go with a ring of four."""
TRANSPORTS = ("p2p", "shared_memory", "hierarchical")


@dataclass(frozen=True)
class Case:
    """One fault."""

    algorithm: str
    transport: str
    verb: str
    rank: int
    step: int
    at: str

    @property
    def phrase(self) -> str:
        """The fault as users write it."""
        seconds = " seconds=10000" if self.verb == "stall" else ""
        return f"{self.verb} rank={self.rank} step={self.step} at={self.at}{seconds}"


def make_case(number: int, seed: int) -> Case:
    """Return a case: algorithms, transports and places come in turn, everything else by chance."""
    dice = random.Random(f"{seed}/{number}")
    return Case(
        ALGORITHMS[number % len(ALGORITHMS)],
        dice.choice(TRANSPORTS),
        dice.choice(["stall", "stop"]),
        dice.randrange(WORKERS),
        dice.randint(3, 30),
        list(PHASES)[number % len(PHASES)],
    )


@dataclass(frozen=True)
class Finding:
    """What a worker ended with."""

    text: str
    peers: tuple[int, ...]
    step: int
    phase: str
    time: float


def train(case: Case, folder: Path) -> None:
    """Train until a hang ends this process."""
    rank = dist.get_rank()
    torch.manual_seed(rank)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    with ExitStack() as held:
        if case.transport == "hierarchical":
            held.enter_context(on_hosts("aabb"))
        algorithm = make_algorithm(case.algorithm)
        transport = "auto" if algorithm.traits.one_sided or not algorithm.traits.gossips else case.transport
        topology = TOPOLOGIES.get(case.algorithm, "ring")
        gossip = Gossip(model, optimizer, algorithm=algorithm, topology=topology, transport=transport)
    watchdog = Watchdog(
        PATIENCE_S,
        PATIENCE_S,
        folder=folder,
        on_hang=lambda error: _leave(error, folder),
        interval_s=INTERVAL_S,
    )
    faults = FaultInjector([case.phrase], folder)
    try:
        with watchdog, watchdog.watch(model, optimizer, gossip), faults.attach(model, optimizer, gossip):
            for step in range(1, STEPS):
                optimizer.zero_grad()
                model(torch.ones(4, 3)).square().sum().backward()
                optimizer.step()
                time.sleep(0.002)
                if step % 5 == 0:
                    evaluate(model, optimizer, gossip)
    except WorkerHung as error:
        _leave(error, folder)


def evaluate(model: nn.Module, optimizer: torch.optim.Optimizer, gossip: Gossip) -> None:
    """Evaluate, and make a checkpoint, as training does."""
    with gossip.averaged():
        model.eval()
        model(torch.ones(4, 3))
        model.train()
    gossip.state_dict()
    optimizer.state_dict()


def _leave(error: WorkerHung, folder: Path) -> None:
    """End this process, whose training thread may hang, and leave what it has found."""
    finding = Finding(str(error), error.peers, error.step or 0, error.phase, time.time())
    (folder / f"finding-{error.rank}.json").write_text(json.dumps(asdict(finding)))
    os._exit(0)


def findings(folder: Path) -> dict[int, Finding]:
    """Return what workers have found, by rank."""
    found = {}
    for path in folder.glob("finding-*.json"):
        values = json.loads(path.read_text())
        found[int(path.stem.partition("-")[2])] = Finding(**{**values, "peers": tuple(values["peers"])})
    return found


def struck_at(folder: Path) -> float:
    """Return when the fault struck."""
    return float(json.loads((folder / "faults.jsonl").read_text().splitlines()[0])["time"])
