"""Two ways to lose no mass over bad links: shares that are sent again, and running sums. In virtual time.

    python benchmarks/running_sums.py                   # eight workers that take turns; a minute
    python benchmarks/running_sums.py --long 500

Workers average random numbers on ``one_peer_exponential``, one step each in turn; nothing is learnt. ``sent again`` is
the library's asynchronous SGP. ``running sums`` is PushSum as in Spiridonoff, Olshevsky, Paschalidis, JMLR 21 (2020),
Algorithm 3: a worker adds each share to the sum of its edge and sends that sum with its step; the receiver adds what is
new in the newest. ``distance`` is how far workers are apart, relative to the mean, after so many steps. ``least
weight`` is the least PushSum weight of a worker in them: an update moves a model by 1 / weight times as much.
``defect`` is what is missing of the sum of all numerators after ``--long`` steps in float32, relative to the size of a
worker's model.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import sgp_core
from sgp_core.asynchronous.link_faults import FaultyLink, LinkFaults
from suite import tables

WORKERS, SIZE = 8, 20
AT = (30, 100, 400)
LINKS = {
    "20% lost": LinkFaults(drop=0.2),
    "late by 1 to 10 steps": LinkFaults(delay=1.0, delay_steps=10),
    "20% lost, half late by 1 to 10 steps": LinkFaults(drop=0.2, delay=0.5, delay_steps=10),
}

Sum = tuple[int, Tensor, float]
"""The sender's step, and the sums of all numerators and weights that it has pushed along the edge."""


class RunningSums:
    """Workers that send sums of all that they have pushed along an edge."""

    def __init__(self, start: Tensor, faults: LinkFaults) -> None:
        n = len(start)
        self.topology = sgp_core.build_topology("one_peer_exponential", world_size=n)
        self.x, self.w = start.clone(), torch.ones(n, dtype=torch.float64)
        self.pushed: dict[tuple[int, int], Sum] = {}
        self.taken: dict[tuple[int, int], Sum] = {}
        nothing = -1, torch.zeros_like(start[0]), 0.0
        for edge in ((i, j) for i in range(n) for j in range(n) if i != j):
            self.pushed[edge] = self.taken[edge] = nothing
        self.links: dict[tuple[int, int], FaultyLink[Sum]] = {edge: FaultyLink(faults, *edge) for edge in self.pushed}

    def step(self, rank: int, step: int) -> None:
        """Let one worker push, and its messages arrive."""
        edges = self.topology.edges(step)
        for peer, share in zip(edges.out_peers[rank], edges.out_weights[rank], strict=True):
            _, x, w = self.pushed[rank, peer]
            self.pushed[rank, peer] = step, x + share * self.x[rank], w + share * float(self.w[rank])
        self.x[rank] *= edges.own_weight[rank]
        self.w[rank] *= edges.own_weight[rank]
        for edge, link in self.links.items():
            if edge[0] == rank:
                arriving = link.advance(step)
                if edge[1] in edges.out_peers[rank]:
                    arriving += link.send(step, self.pushed[edge])
                for message in arriving:
                    self._take(edge, message)

    def _take(self, edge: tuple[int, int], message: Sum) -> None:
        step, x, w = message
        latest, x_taken, w_taken = self.taken[edge]
        if step > latest:
            self.x[edge[1]] += x - x_taken
            self.w[edge[1]] += w - w_taken
            self.taken[edge] = message

    def mass(self) -> Tensor:
        """Return the sum of numerators, those on their way included."""
        under_way = [self.pushed[edge][1].double() - self.taken[edge][1].double() for edge in self.pushed]
        return self.x.double().sum(0) + torch.stack(under_way).sum(0)


def distance(z: Tensor) -> float:
    """Return how far workers are apart, relative to their mean."""
    mean = z.mean(0)
    return float((z - mean).square().sum(1).mean().sqrt() / mean.norm())


def with_running_sums(start: Tensor, faults: LinkFaults, steps: int, at: Sequence[int]) -> dict[str, Any]:
    """Average so; return what a row shows."""
    workers, distances, least = RunningSums(start, faults), {}, 1.0
    for step in range(steps):
        for rank in range(len(start)):
            workers.step(rank, step)
            least = min(least, float(workers.w.min()))
        if step + 1 in at:
            distances[step + 1] = distance(workers.x / workers.w.unsqueeze(1))
    missing = (workers.mass() - start.double().sum(0)).norm() / start.norm(dim=1).mean()
    return {"name": "running sums", "distances": distances, "least_weight": least, "defect": float(missing)}


def with_shares_sent_again(start: Tensor, faults: LinkFaults, steps: int, at: Sequence[int]) -> dict[str, Any]:
    """Average as asynchronous SGP does; return what a row shows."""
    algorithm = sgp_core.build_algorithm("asgp")
    topology = sgp_core.build_topology("one_peer_exponential", world_size=len(start))
    run = sgp_core.simulate(
        algorithm, topology, start, lambda z, step: torch.zeros_like(z), steps=steps, link_faults=faults
    )
    x = (run.w[-1].unsqueeze(1) * run.z[-1].double()).sum(0) + run.x_in_flight[-1].double()
    return {
        "name": "sent again",
        "distances": {step: distance(run.z[step]) for step in at},
        "least_weight": float(run.w.min()),
        "defect": float((x - start.double().sum(0)).norm() / start.norm(dim=1).mean()),
    }


def rows_of(at: Sequence[int], long: int) -> list[dict[str, Any]]:
    """Return a row for each kind of links and each way."""
    rows = []
    start = torch.randn(WORKERS, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for links, faults in LINKS.items():
        for way in (with_shares_sent_again, with_running_sums):
            exact, rounded = way(start, faults, max(at), at), way(start.float(), faults, long, ())
            rows.append({"links": links, **exact, "defect": rounded["defect"]})
    return rows


def columns(at: Sequence[int]) -> list[tables.Column]:
    """Return the columns of the table."""
    return [
        ("links", lambda row: row["links"]),
        ("", lambda row: row["name"]),
        *((f"distance after {step} steps", lambda row, step=step: f"{row['distances'][step]:.0e}") for step in at),
        ("least weight", lambda row: f"{row['least_weight']:.2g}"),
        ("defect in float32", lambda row: f"{row['defect']:.0e}"),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--at", type=int, nargs="+", default=list(AT), help="steps after which to look")
    parser.add_argument("--long", type=int, default=5000, help="steps in float32")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{__doc__}\n{tables.markdown(rows_of(options.at, options.long), columns(options.at), labels=2)}")


if __name__ == "__main__":
    main()
