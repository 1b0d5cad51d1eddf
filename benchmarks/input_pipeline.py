"""How long training waits for its images: kept in memory, or decoded for every batch by 0, 1 or 2 loader processes.

    python benchmarks/input_pipeline.py                                # images are made up; 2 workers; minutes
    python benchmarks/input_pipeline.py --path cifar10 --models cnn --json input_pipeline.json

Workers train by SGP as ``sgp-train`` does (the same code) on 32x32 JPEGs: ``--path``, a folder with a folder for each
class, or some that are made up. ``data ms`` is the time of a step on the training thread before the batch is there:
making it, or waiting for a process to have made it; the first steps of a turn are not counted. Numbers of processes
take turns, in an order that changes from round to round; figures are medians over rounds. Last, a worker without a
model takes batches of photographs (500x375 JPEGs, made up), a random part of each resized to 224 pixels, as fast as
they come.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist

from sgp_core.gossip import Gossip
from sgp_core.training.assembly import assemble
from sgp_core.training.batches import TrainingBatches
from sgp_core.training.config import Experiment
from sgp_core.training.loader import Loader
from sgp_core.training.peers import Peers
from sgp_core.training.randomness import seed_model
from sgp_core.training.step import TrainingStep
from suite import tables, turns
from suite.workers import as_program, in_workers, machine

MODELS = {"cnn": 200, "resnet18_cifar": 15}
"""Steps that are counted, by model."""
PLACES = {"memory": "shifted", "files": "resized"}
"""Where images are when a batch is made, and the option ``crop`` that says so."""
WARM_UP = 5
BATCH = 32
CPU = torch.device("cpu")


def experiment(model: str, place: str, path: Path, size: int, workers: int) -> Experiment:
    """Return what is trained."""
    dataset = {"name": "image_folder", "path": str(path), "cache": str(path / ".cache"), "image_size": size}
    return Experiment.from_dict(
        {
            "model": {"name": model},
            "dataset": {**dataset, "crop": PLACES[place]},
            "topology": {"name": "one_peer_exponential"},
            "algorithm": {"name": "sgp"},
            "optimizer": {"name": "sgd"},
            "schedule": {"name": "constant"},
            "training": {"batch_size": BATCH},
            "world_size": workers,
        }
    )


def waits(model: str, place: str, path: Path, processes: list[int], rounds: int, steps: int) -> list[dict[str, Any]]:
    """Return, for each number of processes, rank 0's milliseconds of a step and of its wait for data."""
    peers = Peers(CPU)
    chosen = experiment(model, place, path, 32, peers.world_size)
    parts = assemble(chosen, CPU, peers)
    gossip = cast(Gossip, parts.gossip)
    make = TrainingBatches(parts.task, parts.sampler, 0, peers.rank)
    criterion = partial(parts.task.loss, smoothing=0.0)
    take = TrainingStep(parts.model, parts.optimizer, gossip, criterion, chosen.training)

    def turn(count: int) -> tuple[float, float]:
        waited = taken = 0.0
        with Loader(make, range(WARM_UP + steps), count) as batches:
            for step in range(WARM_UP + steps):
                if step == WARM_UP:
                    dist.barrier()
                    waited = taken = 0.0
                seed_model(0, peers.rank, step, CPU)
                start = time.perf_counter()
                batch = next(batches).to(CPU)
                waited += time.perf_counter() - start
                take(batch)
                taken += time.perf_counter() - start
        return waited / steps, taken / steps

    found: dict[int, list[tuple[float, float]]] = {count: [] for count in processes}
    for number in range(rounds):
        for count in turns.rotated(processes, number):
            found[count].append(turn(count))
    gossip.close()
    return [
        {
            "model": model,
            "place": place,
            "processes": count,
            "data_ms": 1e3 * statistics.median(waited for waited, _ in times),
            "step_ms": 1e3 * statistics.median(taken for _, taken in times),
            "share": statistics.median(waited / taken for waited, taken in times),
            "rounds": times,
        }
        for count, times in found.items()
    ]


def decoding(path: Path, processes: list[int], rounds: int, batches: int) -> list[dict[str, Any]]:
    """Return, for each number of processes, how many photographs a second become batches."""
    peers = Peers(CPU)
    parts = assemble(experiment("cnn", "files", path, 224, peers.world_size), CPU, peers)
    make = TrainingBatches(parts.task, parts.sampler, 0, 0)

    def turn(count: int) -> float:
        with Loader(make, range(WARM_UP + batches), count) as loader:
            for _ in range(WARM_UP):
                next(loader)
            start = time.perf_counter()
            images = sum(len(batch) for batch in loader)
            return images / (time.perf_counter() - start)

    found: dict[int, list[float]] = {count: [] for count in processes}
    for number in range(rounds):
        for count in turns.rotated(processes, number):
            found[count].append(turn(count))
    cast(Gossip, parts.gossip).close()
    return [
        {"processes": count, "images_per_s": statistics.median(rates), "rounds": rates}
        for count, rates in found.items()
    ]


def make_up(folder: Path, count: int, width: int, height: int) -> Path:
    """Write ``count`` JPEGs in ten classes, coarse shapes under noise, and return where."""
    from PIL import Image

    dice = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(dice.integers(256, size=(6, 8, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int64)
        noisy = (pixels + dice.integers(-10, 10, pixels.shape)).clip(0, 255).astype(np.uint8)
        file = folder / ("val" if number % 10 == 9 else "train") / f"class{number // 10 % 10}" / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).save(file, quality=90)
    return folder


def options_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--path", type=Path, help="folder of small images, a folder for each class")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS, metavar="NAME")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--processes", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="per row and round; by default 200 of cnn, 15 of resnet18_cifar")
    parser.add_argument("--photographs", type=int, default=400, help="how many are made up")
    parser.add_argument("--json", type=Path, help="also write everything here")
    return parser


def main() -> None:
    """Measure and print."""
    options = options_parser().parse_args()
    about = {"benchmark": "input_pipeline", **machine(), "workers": options.workers, "rounds": options.rounds}
    print(f"torch {about['torch']}, gloo, {about['cores']} cores, load {about['load']}; {__doc__}", flush=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        path = options.path or make_up(Path(scratch, "small"), 4000, 32, 32)
        for model in options.models:
            for place in PLACES:
                steps = options.steps or MODELS[model]
                how = (options.processes, options.rounds, steps)
                rows += in_workers(options.workers, waits, model, place, path.absolute(), *how)
        photographs = make_up(Path(scratch, "photographs"), options.photographs, 500, 375)
        rows += in_workers(1, decoding, photographs, options.processes, options.rounds, options.steps or 20)
    print(tables.input_pipeline(rows), flush=True)
    if options.json:
        tables.save(options.json, about, rows)


if __name__ == "__main__":
    as_program()
    main()
