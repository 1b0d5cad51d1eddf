"""Does the clock predict real steps? Measured beside predicted, on sizes and models that nothing was calibrated with.

    .venv/bin/python benchmarks/prediction.py --networks loopback --minutes 6
    sudo .venv/bin/python benchmarks/prediction.py --json prediction.json            # 25 minutes

A group is a network and a number of gloo workers: loopback, where all share this machine's cores, or each worker in a
network namespace behind a link of a known rate and delay (suite/network.py). In each group the workers first calibrate
as ``sgp calibrate`` does, with vectors of some sizes. Then they train: the digits, padded to sizes that were not among
those, with emulated computation (suite/paced.py). AllReduce, SGP, Overlap SGP and DiLoCo take turns in rotating order,
and a figure is the median over turns of the slowest worker's time from step to step. A configuration is a group, a size
and a computation; in each the four are predicted from the calibration, and the one that is predicted to be the fastest
is what a plan would choose.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import sgp_core
from sgp_core.algorithms import Algorithm, build_algorithm, build_outer
from sgp_core.algorithms.base import Outer
from sgp_core.calibration.exchanges import Places, measure_exchanges, measure_lone_pair
from sgp_core.calibration.fit import fit_line, network_options
from sgp_core.clock import ComputationModel, NetworkModel, predict, traffic_of
from sgp_core.topology import build_topology
from sgp_core.training.peers import Peers
from suite import tables, turns
from suite.network import SlowNetwork, Unavailable
from suite.paced import Clock, PacedModel, Problem
from suite.workers import as_program, in_workers, machine

TOPOLOGY, TRANSPORT = "one_peer_exponential", "p2p"
TAU, STEPS = 8, 16
"""Steps of a block of DiLoCo, and of a turn: whole blocks."""
_LONE_BYTES = 1 << 22
_LEAST_TURNS, _MOST_TURNS = 2, 7


@dataclass(frozen=True)
class Setting:
    """A network: rate and delay of each worker's link; no rate: all share this machine."""

    name: str
    mbit: float | None = None
    delay_ms: float = 0.0


NETWORKS = {
    setting.name: setting
    for setting in (
        Setting("loopback"),
        Setting("1000 Mbit/s", 1000.0),
        Setting("200 Mbit/s", 200.0),
        Setting("200 Mbit/s, 5 ms", 200.0, 5.0),
    )
}
HELD_OUT = ((300_000, 40.0), (1_500_000, 80.0))
"""Parameters and ms of computation; messages of 1.2 and 6 MB, neither of a size that is calibrated with."""


def rules() -> dict[str, Algorithm]:
    """Return who takes part."""
    return {
        "allreduce": build_algorithm("allreduce"),
        "sgp": build_algorithm("sgp"),
        "osgp": build_algorithm("osgp"),
        "diloco": build_outer("diloco", build_algorithm("local_sgd", period=0), tau=TAU),
    }


def measure(per_host: int, held_out: list[tuple[int, float]], budget_s: float) -> dict[str, Any]:
    """Calibrate, then let the rules take turns on every held-out configuration, and return all timings."""
    began, device = time.monotonic(), torch.device("cpu")
    peers = Peers(device)
    timings = measure_exchanges(peers, device, Places(peers.world_size, per_host), TRANSPORT)
    lone = measure_lone_pair(peers, device, _LONE_BYTES) if per_host > 1 else None
    calibrated = time.monotonic() - began
    problem = Problem(peers.rank, peers.world_size, 32)
    trainings = {
        (at, name): Training(rule, parameters, compute_ms / 1e3, problem)
        for at, (parameters, compute_ms) in enumerate(held_out)
        for name, rule in rules().items()
    }
    found: dict[tuple[int, str], list[float]] = {key: [] for key in trainings}
    for number in range(_MOST_TURNS):
        over = time.monotonic() - began > budget_s * number / (number + 1)  # another turn would take too long
        if number >= _LEAST_TURNS and peers.broadcast(over):
            break
        for key in turns.rotated(list(trainings), number):
            found[key].append(max(peers.gather(trainings[key].turn())))
    steps = [{name: found[at, name] for name in rules()} for at in range(len(held_out))]
    return {"timings": timings, "lone_s": lone, "steps_s": steps, "calibrated_in_s": calibrated}


class Training:
    """A rule that trains a padded model whose computation is emulated."""

    def __init__(self, rule: Algorithm, parameters: int, compute_s: float, problem: Problem) -> None:
        self._clock, self._problem = Clock(compute_s), problem
        self._first = TAU if isinstance(rule, Outer) else 2  # a block, so that each turn begins where one does
        self._model = PacedModel(parameters, self._clock)
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=0.01)
        topology = build_topology(TOPOLOGY, dist.get_world_size())
        self._gossip = sgp_core.Gossip(
            self._model, self._optimizer, algorithm=rule, topology=topology, transport=TRANSPORT
        )

    def turn(self) -> float:
        """Take ``STEPS`` steps after a few that are not counted; return this worker's seconds per step."""
        for _ in range(self._first):
            self._step()
        began = time.perf_counter()
        for _ in range(STEPS):
            self._step()
        taken = (time.perf_counter() - began) / STEPS
        if self._gossip.algorithm.traits.sends_ahead:
            self._gossip.network.settle()
        else:
            self._gossip.finish()
        return taken

    def _step(self) -> None:
        self._clock.start()
        self._problem.loss(self._model).backward()
        self._optimizer.step()
        self._optimizer.zero_grad()


def rows_of(setting: Setting, workers: int, held_out: list[tuple[int, float]], found: dict[str, Any]) -> list[Any]:
    """Return a row for each rule and configuration: what was measured, and what is predicted from the calibration."""
    per_host = workers if setting.mbit is None else 1
    timings = {kind: [(size, seconds) for size, seconds in pairs] for kind, pairs in found["timings"].items()}
    update = fit_line(timings.pop("update"))
    lone = None if found["lone_s"] is None else (_LONE_BYTES, found["lone_s"])
    cores = torch.multiprocessing.cpu_count()
    network = NetworkModel.from_options(network_options(timings, workers, per_host, cores, lone, 1.0))
    rows = []
    for (parameters, compute_ms), steps in zip(held_out, found["steps_s"], strict=True):
        nbytes = 4 * parameters
        step_ms = compute_ms + update.seconds(nbytes) * 1e3
        computation = ComputationModel.from_options({"name": "constant", "step_ms": step_ms})
        for name, rule in rules().items():
            traffic = traffic_of(rule, build_topology(TOPOLOGY, workers), model_bytes=nbytes)
            predicted = predict(network, computation, traffic, workers, steps=STEPS).step_s
            measured = statistics.median(steps[name])
            about = {"network": setting.name, "workers": workers, "message_bytes": nbytes, "compute_ms": compute_ms}
            row = {**about, "name": name, "measured_ms": measured * 1e3, "predicted_ms": predicted * 1e3}
            rows.append({**row, "ratio": predicted / measured, "turns_ms": [1e3 * one for one in steps[name]]})
    return rows


def choices(rows: list[Any]) -> Iterator[tuple[Any, Any, float]]:
    """Yield, for each configuration, the row that prediction chooses, the fastest, and their ratio."""
    configurations: dict[Any, list[Any]] = {}
    for row in rows:
        key = row["network"], row["workers"], row["message_bytes"]
        configurations.setdefault(key, []).append(row)
    for group in configurations.values():
        chosen, best = (min(group, key=lambda row: row[which]) for which in ("predicted_ms", "measured_ms"))
        yield chosen, best, chosen["measured_ms"] / best["measured_ms"]


def summary(rows: list[Any]) -> str:
    """Return how good predictions and choices are, over all rows and per network."""
    lines = []
    for name in [None, *dict.fromkeys(row["network"] for row in rows)]:
        some = [row for row in rows if name in (None, row["network"])]
        errors = [abs(row["ratio"] - 1) for row in some]
        excess = [more for _, _, more in choices(some)]
        lines.append(
            f"{name or 'all'}: {len(some)} predictions, off by {statistics.median(errors):.1%} in the median,"
            f" {max(errors):.0%} at most; {len(excess)} choices, at most {max(excess) - 1:.1%} slower than the best"
        )
    return "\n".join(lines)


def print_rows(rows: list[Any]) -> None:
    """Print a line for each."""
    for row in rows:
        print(
            f"{row['network']:<17} {row['workers']} workers {row['message_bytes'] / 1e6:4.1f} MB"
            f" {row['compute_ms']:3.0f} ms  {row['name']:<9} measured {row['measured_ms']:7.1f}"
            f"  predicted {row['predicted_ms']:7.1f}  ratio {row['ratio']:.3f}",
            flush=True,
        )


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS, metavar="NAME")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--minutes", type=float, default=25.0, help="for everything, about")
    parser.add_argument("--parameters", type=float, nargs="+", help="millions, in place of the held-out sizes")
    parser.add_argument("--json", type=Path, help="also write everything here")
    return parser


def main() -> None:
    """Measure, predict and print."""
    options = options_parser().parse_args()
    about = {"benchmark": "prediction", **machine(), "steps": STEPS}
    print(f"torch {about['torch']}, gloo, {about['cores']} cores, load {about['load']}; {__doc__}", flush=True)
    held_out = [(int(size * 1e6), 40.0) for size in options.parameters] if options.parameters else list(HELD_OUT)
    groups = [(NETWORKS[name], workers) for name in options.networks for workers in options.workers]
    rows: list[Any] = []
    end = time.monotonic() + 60 * options.minutes
    for number, (setting, workers) in enumerate(groups):
        budget = max(20.0, (end - time.monotonic()) / (len(groups) - number) - 10)
        try:
            with contextlib.ExitStack() as held:
                namespaces: list[str] = []
                if setting.mbit is not None:
                    slow = held.enter_context(SlowNetwork(workers, setting.mbit, setting.delay_ms))
                    namespaces = slow.namespaces
                per_host = 1 if namespaces else workers
                found = in_workers(workers, measure, per_host, held_out, budget, namespaces=namespaces)
        except Unavailable as reason:
            sys.exit(str(reason))
        new = rows_of(setting, workers, held_out, found)
        print_rows(new)
        rows += new
    print(f"\n{summary(rows)}")
    if options.json:
        tables.save(options.json, about, rows)


if __name__ == "__main__":
    as_program()
    main()
