"""What a step and a loss cost on a slow network: torch DDP and gossip, each worker behind a link of a known rate.

    sudo .venv/bin/python benchmarks/slow_network.py                    # 8 workers, 200 Mbit/s
    sudo .venv/bin/python benchmarks/slow_network.py --delay-ms 5 --mbit 200
    sudo .venv/bin/python benchmarks/slow_network.py --workers 4 --mbit 50 1000 --rounds 1 --json network.json

Every worker lives in a network namespace of this machine, cabled to a bridge; the kernel limits each link in both
directions. A delay is added by a small switch (suite/switch.c). All contenders live in the same workers and take
turns in rotating order: a turn is a whole training from the same start, and nothing is under way when the next
begins.

The problem is real and small: the digits, one hidden layer, padded to 2.5 M parameters; computation is emulated by
sleeping in forward and backward (suite/paced.py), half as long as a message takes unless told otherwise. ``step`` is
the time between the end of the first step and the end of the last, per step, on the slowest worker. The loss is that
of the validation images, on each worker's own model, averaged over workers; seconds to it are those of the training
until it is reached. ``ideal`` counts emulated computation and bytes on the wire only (headers included): the larger
of the two where messages travel beside computation, their sum where not.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from suite import tables, turns
from suite.contender import Contender
from suite.contenders import DDP, Entry, gossip
from suite.network import PAYLOAD, SlowNetwork, Unavailable
from suite.paced import Clock, PacedModel, Problem
from suite.rivals import BareExchange, TorchDDP
from suite.workers import as_program, in_workers, machine

BATCH, LR, TARGET_LOSS = 32, 0.12, 0.8
_BACKWARD = 2 / 3
INT8 = (1 + 4 / 256) / 4
"""What int8 sends of a float32 message: a byte a number, and a scale for every 256."""


@dataclass(frozen=True)
class Network:
    """What an ideal step is computed from.

    Attributes:
        compute: seconds of computation.
        wire: seconds that one model takes to leave, headers included.
        delay: seconds until it is there.
        workers: how many.
    """

    compute: float
    wire: float
    delay: float
    workers: int

    @property
    def message(self) -> float:
        """Seconds of one message."""
        return self.wire + self.delay

    def coded(self, share: float) -> float:
        """Seconds of a message of this share of the bytes; coding takes none, ideally."""
        return self.wire * share + self.delay

    @property
    def ring(self) -> float:
        """Seconds of a ring AllReduce of one model: ``2 (n - 1)`` messages of an n-th, one after the other."""
        return 2 * (self.workers - 1) * (self.wire / self.workers + self.delay)


CONTENDERS: dict[str, tuple[Entry, Callable[[Network], float]]] = {
    DDP: (Entry(TorchDDP), lambda it: it.compute + it.ring),
    f"{DDP}, 1 MB buckets": (
        Entry(TorchDDP, {"bucket_mb": 1}),
        lambda it: it.compute * (1 - _BACKWARD) + max(it.compute * _BACKWARD, it.ring),
    ),
    "sgp": (gossip("sgp"), lambda it: it.compute + it.message),
    "sgp, in backward": (
        gossip("sgp", more={"step_in_backward": True}),
        lambda it: it.compute * (1 - _BACKWARD) + max(it.compute * _BACKWARD, it.message),
    ),
    "osgp, overlap_steps=1": (gossip("osgp", overlap_steps=1), lambda it: max(it.compute, it.message)),
    "sgp, int8": (gossip("sgp", compression="int8"), lambda it: it.compute + it.coded(INT8)),
    "osgp, int8": (gossip("osgp", compression="int8"), lambda it: max(it.compute, it.coded(INT8))),
}
"""Who takes part, and the least a step can take. DDP's own buckets hold 25 MB: all of this model but the first MB, so
that little is sent during backward; with buckets of 1 MB it sends what it can. A new contender is a line here."""


def measure(names: list[str], parameters: int, compute_s: float, rounds: int, steps: int) -> dict[str, Any]:
    """Train with each contender in turns; return a bare message's seconds, and per contender and round what it took."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    problem = Problem(rank, world_size, BATCH)
    trainings = {name: Training(CONTENDERS[name][0], parameters, compute_s, problem) for name in names}
    found: dict[str, Any] = {name: {"step_s": [], "losses": [], "ends_s": []} for name in names}
    bare = bare_message(parameters)
    for number in range(rounds):
        for name in turns.rotated(names, number):
            ends, losses = trainings[name].run(number, steps)
            found[name]["ends_s"].append(_over_workers(ends, dist.ReduceOp.MAX))
            found[name]["losses"].append([loss / world_size for loss in _over_workers(losses, dist.ReduceOp.SUM)])
            per_step = (ends[-1] - ends[0]) / (steps - 1)
            found[name]["step_s"].append(_over_workers([per_step], dist.ReduceOp.MAX)[0])
    for name, training in trainings.items():
        found[name]["bytes_per_step"] = training.bytes_sent / steps
    return {"bare_message_s": bare, "contenders": found}


class Training:
    """A contender that can begin again from the same start; ``bytes_sent`` is what it sent in its latest training."""

    def __init__(self, entry: Entry, parameters: int, compute_s: float, problem: Problem) -> None:
        torch.manual_seed(0)
        self._clock, self._problem = Clock(compute_s), problem
        self.bytes_sent = 0.0
        self._model = PacedModel(parameters, self._clock)
        self.contender: Contender = entry.build(self._model, LR)
        gossip = getattr(self.contender, "gossip", None)
        self._parts = [part for part in (self._model, self.contender.optimizer, gossip) if part is not None]
        self._start = [_copied(part.state_dict()) for part in self._parts]

    def run(self, seed: int, steps: int) -> tuple[list[float], list[float]]:
        """Train; return the second at which each step ended on this worker, and the validation loss then."""
        for part, state in zip(self._parts, self._start, strict=True):
            part.load_state_dict(_copied(state))
        self._problem.restart(seed)
        sent = self.contender.bytes_sent
        dist.barrier()
        began = time.perf_counter()
        ends: list[float] = []
        losses: list[float] = []
        for _ in range(steps):
            self._clock.start()
            if ends:
                losses.append(self._problem.validation_loss(self._model))
            self.contender.step(self._problem.loss)
            ends.append(time.perf_counter() - began)
        losses.append(self._problem.validation_loss(self._model))
        self.contender.settle()
        self.bytes_sent = self.contender.bytes_sent - sent
        return ends, losses


def bare_message(parameters: int) -> float:
    """Return the median seconds of a bare exchange of as many parameters, the network being idle otherwise."""
    contender = BareExchange(torch.nn.Linear(parameters - 1, 1))
    seconds = []
    for _ in range(6):
        dist.barrier()
        start = time.perf_counter()
        contender.exchange()
        seconds.append(_over_workers([time.perf_counter() - start], dist.ReduceOp.MAX)[0])
        contender.steps += 1
    return statistics.median(seconds[1:])


def rows_of(found: dict[str, Any], network: Network, about: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row per contender: medians over rounds."""
    rows = []
    for name, mine in found["contenders"].items():
        reached = [time_to_target(losses, ends) for losses, ends in zip(mine["losses"], mine["ends_s"], strict=True)]
        ideal = CONTENDERS[name][1](network)
        step = statistics.median(mine["step_s"])
        all_reached = None not in reached
        rows.append(
            {
                **about,
                "name": name,
                "compute_ms": network.compute * 1e3,
                "message_ms": network.message * 1e3,
                "bare_message_ms": found["bare_message_s"] * 1e3,
                "step_ms": step * 1e3,
                "ideal_ms": ideal * 1e3,
                "step_vs_ideal": step / ideal,
                "bytes_per_step": mine["bytes_per_step"],
                "steps_to_loss": int(statistics.median(r[0] for r in reached if r)) if all_reached else None,
                "seconds_to_loss": statistics.median(r[1] for r in reached if r) if all_reached else None,
                "rounds": {key: mine[key] for key in ("step_s", "losses", "ends_s")},
            }
        )
    reference = next((row["seconds_to_loss"] for row in rows if row["name"] == DDP), None)
    for row in rows:
        mine_s = row["seconds_to_loss"]
        row["speedup"] = reference / mine_s if reference and mine_s else None
    return rows


def time_to_target(losses: list[float], ends: list[float]) -> tuple[int, float] | None:
    """Return how many steps, and seconds, it took to the target loss; None if it was not reached."""
    return next(((k + 1, ends[k]) for k, loss in enumerate(losses) if loss <= TARGET_LOSS), None)


def _over_workers(values: list[float], how: Any) -> list[float]:
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor, op=how)
    return tensor.tolist()


def _copied(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_copied(value) for value in state]
    return state.clone() if isinstance(state, torch.Tensor) else state


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[8])
    parser.add_argument("--mbit", type=float, nargs="+", default=[200], help="rate of every link, each way")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="one way, added to every frame")
    parser.add_argument("--compute-ms", type=float, help="of a step; half a message unless given")
    parser.add_argument("--parameters", type=float, default=2.5, help="millions")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=32, help="of a training: one turn of a contender")
    parser.add_argument("--json", type=Path, help="also write everything here")
    return parser


def main() -> None:
    """Measure and print."""
    options = options_parser().parse_args()
    about = {"benchmark": "slow_network", **machine(), "rounds": options.rounds, "steps": options.steps}
    print(f"torch {about['torch']}, gloo, {about['cores']} cores, load {about['load']}; {__doc__}", flush=True)
    parameters = int(options.parameters * 1e6)
    rows: list[dict[str, Any]] = []
    for workers in options.workers:
        for mbit in options.mbit:
            wire, delay = 4 * parameters * 8 / (mbit * 1e6) / PAYLOAD, options.delay_ms / 1e3
            compute = (wire + delay) / 2 if options.compute_ms is None else options.compute_ms / 1e3
            arguments = (options.contenders, parameters, compute, options.rounds, options.steps)
            try:
                with SlowNetwork(workers, mbit, options.delay_ms) as slow:
                    found = in_workers(workers, measure, *arguments, namespaces=slow.namespaces)
            except Unavailable as reason:
                sys.exit(str(reason))
            cell = {"workers": workers, "mbit": mbit, "delay_ms": options.delay_ms, "message_bytes": 4 * parameters}
            new = rows_of(found, Network(compute, wire, delay, workers), {**cell, "target_loss": TARGET_LOSS})
            print(tables.network(new), end="\n\n", flush=True)
            rows += new
    if options.json:
        tables.save(options.json, about, rows)


if __name__ == "__main__":
    as_program()
    main()
