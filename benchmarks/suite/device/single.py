"""Checks of one GPU: training and resuming, a group of one, the speed of mixing, and mixing under torch.compile."""

from __future__ import annotations

import io
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import sgp_core
from sgp_core.tensors.mixing import mix_, mix_all_
from sgp_core.training import CheckpointConfig, EvaluationConfig, Experiment, train
from suite.device import problem
from suite.device.check import Check, Found, Place, at_most

_MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"model": {"name": "mlp"}, "training": {}},
    "cnn": {"model": {"name": "cnn"}, "training": {}},
    "resnet18_cifar in bf16, channels last": {
        "model": {"name": "resnet18_cifar"},
        "training": {"precision": "bf16", "channels_last": True, "clip_norm": 1.0},
    },
}


def checks() -> list[Check]:
    """Return the checks that need one process."""
    return [
        *(Check(f"train {name} on digits, resume to the bit", partial(training, name)) for name in _MODELS),
        Check("train asks nothing of the GPU between two rows", unasked),
        *(Check(f"mixing: {name}", partial(mixing, name)) for name in ("float32", "bfloat16", "float64")),
        Check("torch.compile(fullgraph=True) of mixing", compiled),
        Check("group of one, NCCL", group_of_one, group="nccl"),
        Check("a part of a model is saved alone, all of it in a folder, NCCL", saved, group="nccl"),
    ]


def training(name: str, place: Place) -> Found:
    """Train; go back to the checkpoint in the middle; train on; compare the models bit by bit."""
    with tempfile.TemporaryDirectory() as folder:
        whole, resumed = Path(folder, "whole"), Path(folder, "resumed")
        began = time.monotonic()
        summary = _train(name, whole, place)
        seconds = time.monotonic() - began
        shutil.copytree(whole, resumed)
        (resumed / "model.safetensors").unlink()
        shutil.rmtree(resumed / "checkpoints" / f"step-{summary['steps']}")
        _train(name, resumed, place)
        same = (whole / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()
        apart = _apart(whole / "model.safetensors", resumed / "model.safetensors")
    accuracy = summary["final"]["accuracy"]
    problems = [] if same else [f"resumed, the model differs by up to {apart:.1e}"]
    if not accuracy > 0.7:
        problems.append(f"accuracy {accuracy:.2f} after {summary['steps']} steps")
    step_ms = 1e3 * seconds / summary["steps"]
    said = f"accuracy {accuracy:.3f} after {summary['steps']} steps, {step_ms:.1f} ms a step in all"
    return Found("; ".join(problems), said, {"accuracy": accuracy, "seconds": seconds})


def _train(name: str, directory: Path, place: Place) -> dict[str, Any]:
    chosen = _MODELS[name]
    return train(
        Experiment.from_dict(
            {
                "model": chosen["model"],
                "dataset": {"name": "digits"},
                "topology": {"name": "one_peer_exponential"},
                "algorithm": {"name": "sgp"},
                "optimizer": {"name": "sgd", "lr": 0.05},
                "schedule": {"name": "cosine"},
                "training": {"epochs": 4, "batch_size": 32, **chosen["training"]},
            }
        ),
        directory=directory,
        device=place.device,
        evaluation=EvaluationConfig(),
        checkpoint=CheckpointConfig(every_epochs=2, keep_last=4),
        log_every=10,
    )


def _apart(one: Path, other: Path) -> float:
    from safetensors.torch import load_file

    mine, theirs = load_file(one), load_file(other)
    return max(float((mine[name].double() - theirs[name].double()).abs().max()) for name in mine)


def unasked(place: Place) -> Found:
    """Take steps of training while torch refuses whatever makes the host wait for the GPU."""
    from sgp_core.tasks.base import Batch
    from sgp_core.training.config import TrainingConfig
    from sgp_core.training.step import TrainingStep

    model = problem.make_model().float().to(place.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    graph = sgp_core.build_topology("ring", world_size=1)
    gossip = sgp_core.Gossip(model, optimizer, algorithm=sgp_core.build_algorithm("sgp"), topology=graph)
    step = TrainingStep(model, optimizer, gossip, nn.functional.cross_entropy, TrainingConfig(clip_norm=1.0))
    inputs = torch.randn(16, problem.SIZES[0], device=place.device)
    targets = torch.zeros(16, dtype=torch.int64, device=place.device)
    batch = Batch((inputs,), targets)
    for _ in range(3):
        step(batch)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):
            step(batch)
    except RuntimeError as error:
        return Found(str(error))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return Found()


def group_of_one(place: Place) -> Found:
    """Build, step, average, save and load in an NCCL group of one worker; the numbers are the simulator's."""
    problems = []
    for name in ("sgp", "osgp", "allreduce", "dpsgd"):
        algorithm, graph = sgp_core.build_algorithm(name), sgp_core.build_topology("complete", world_size=1)
        model = problem.make_model().to(place.device)
        optimizer = problem.make_optimizer(model.parameters())
        gossip = sgp_core.Gossip(model, optimizer, algorithm=algorithm, topology=graph)
        inputs, targets = (tensor.to(place.device) for tensor in problem.examples(0))
        for step in range(problem.STEPS):
            nn.functional.mse_loss(model(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
            if step == problem.STEPS // 2:
                gossip.load_state_dict(gossip.state_dict())
        before = problem.flatten(model)
        with gossip.averaged():
            averaged = problem.flatten(model)
        gossip.finish()
        expected = problem.simulated(algorithm, graph).z[-1, 0]
        wrong = at_most(
            1e-12,
            numbers=float((before - expected).abs().max()),
            average=float((averaged - before).abs().max()),
            distance=gossip.consensus_distance(),
        )
        problems += [f"{name}: {wrong}"] if wrong else []
        gossip.close()
    return Found("; ".join(problems))


def saved(place: Place) -> Found:
    """Save one layer, and all workers to a folder; load them, and compare."""
    model = nn.Sequential(*(nn.Linear(250, 250) for _ in range(8))).to(place.device, torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    gossip = sgp_core.Gossip(model, optimizer, algorithm=sgp_core.build_algorithm("sgp"))
    model(torch.randn(4, 250, device=place.device, dtype=torch.bfloat16)).sum().backward()
    optimizer.step()
    part = io.BytesIO()
    torch.save(model[0].state_dict(), part)
    before = problem.flatten(model)
    with tempfile.TemporaryDirectory() as folder:
        gossip.save(folder)
        optimizer.step()
        gossip.load(folder)
    wrong = at_most(250 * 251 * 2 + 8192, bytes=part.tell()) or at_most(
        0.0,
        loaded=float((problem.flatten(model) - before).abs().max()),
        average=max(
            float((value - model.state_dict()[name]).abs().max())
            for name, value in gossip.averaged_state_dict().items()
        ),
    )
    gossip.close()
    return Found(wrong, f"a layer of 126 kB is saved in {part.tell() / 1e3:.0f} kB")


def mixing(name: str, place: Place) -> Found:
    """Compare the bytes a second of a mix with those of a copy."""
    dtype = getattr(torch, name)
    size = (100 << 20) // dtype.itemsize
    x, *received = (torch.randn(size, device=place.device).to(dtype) for _ in range(3))
    nbytes = size * dtype.itemsize
    copy = 2 * nbytes / _seconds(lambda: x.copy_(received[0]))
    one = 3 * nbytes / _seconds(lambda: mix_(x, 0.5, received[0], 0.5))
    two = 4 * nbytes / _seconds(lambda: mix_all_(x, 1 / 3, received, [1 / 3, 1 / 3]))
    said = f"{one / 1e9:.0f} GB/s with one peer, {two / 1e9:.0f} with two (useful bytes), a copy {copy / 1e9:.0f}"
    wrong = "" if one > 0.6 * copy else f"a mix is slow: {said}"
    return Found(wrong, said, {"copy_gb_s": copy / 1e9, "one_peer_gb_s": one / 1e9, "two_peers_gb_s": two / 1e9})


def _seconds(act: Any) -> float:
    act()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(20):
        act()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 20 / 1e3


def compiled(place: Place) -> Found:
    """Compile one mix of two vectors and one of three as single graphs; compare with what is computed without."""

    def both(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        mix_(x, 0.5, y, 0.5)
        mix_all_(x, 0.25, (y, z), (0.5, 0.25))
        return x

    vectors = [torch.randn(1 << 20, device=place.device) for _ in range(3)]
    expected = both(*(vector.clone() for vector in vectors))
    found = torch.compile(both, fullgraph=True)(*(vector.clone() for vector in vectors))
    apart = float((found - expected).abs().max())
    return Found(at_most(1e-6, compiled=apart), f"differs by {apart:.1e}")
