"""A small noisy experiment: batch norm, dropout and augmentation, so that lost state shows as different bits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.images.classification import ImageClassification
from sgp_core.tasks.images.datasets import ImageDataset
from sgp_core.tasks.images.models import ImageModel
from sgp_core.tasks.models import MODELS
from sgp_core.training.checkpoint import CheckpointStore
from sgp_core.training.config import CheckpointConfig, EvaluationConfig, Experiment

CPU = torch.device("cpu")
CLASSES = 6


class Images:
    """Class prototypes plus noise; augmentation adds more, from the generator alone."""

    def __init__(self, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        prototypes = torch.randn(CLASSES, 2, 5, 5, generator=torch.Generator().manual_seed(99))
        self.targets = torch.randint(CLASSES, (count,), generator=generator)
        self.inputs = prototypes[self.targets] + 0.5 * torch.randn(count, 2, 5, 5, generator=generator)

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, indices: torch.Tensor, generator: torch.Generator | None = None) -> Any:
        inputs = self.inputs[indices]
        if generator is not None:
            inputs = inputs + 0.1 * torch.randn(inputs.shape, generator=generator)
        return inputs, self.targets[indices]


@dataclass(frozen=True)
class Blobs(ImageDataset):
    train_examples: int = 101
    where: str = field(default="", metadata={"identity": False})

    def load(self) -> ImageClassification:
        return ImageClassification(Images(self.train_examples, 1), Images(37, 2), CLASSES, (2, 5, 5))


@dataclass(frozen=True)
class NoisyNet(ImageModel):
    dropout: float = 0.3
    hidden: bool = False

    def build(self, example: tuple[int, int, int], num_classes: int) -> nn.Module:
        width = 6 * example[1] * example[2]
        return nn.Sequential(
            nn.Conv2d(example[0], 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Flatten(),
            *([nn.Linear(width, width), nn.ReLU()] if self.hidden else []),
            nn.Linear(width, num_classes),
        )


@contextlib.contextmanager
def known() -> Iterator[None]:
    """Register the data set "blobs" and the model "noisy" for the time of a test."""
    DATASETS.register("blobs")(Blobs)
    MODELS.register("noisy")(NoisyNet)
    try:
        yield
    finally:
        DATASETS.remove("blobs")
        MODELS.remove("noisy")


def experiment(world_size: int = 1, *, choices: dict[str, Any] | None = None, **training: Any) -> Experiment:
    """Return a small experiment; ``choices`` replaces groups, ``training`` sets training options."""
    values: dict[str, Any] = {
        "model": {"name": "noisy"},
        "dataset": {"name": "blobs"},
        "topology": {"name": "one_peer_exponential"},
        "algorithm": {"name": "sgp"},
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
        "schedule": {"name": "constant"},
        "training": {"epochs": 3, "batch_size": 8, **training},
        "world_size": world_size,
        "seed": 5,
    }
    return Experiment.from_dict({**values, **(choices or {})})


def settings(**overrides: Any) -> dict[str, Any]:
    """Return the keyword arguments that every call of train() needs."""
    defaults = {"device": CPU, "evaluation": EvaluationConfig(), "checkpoint": CheckpointConfig(), "log_every": 1}
    return {**defaults, **overrides}


def newest_states(directory: Path, world_size: int) -> list[dict[str, Any]]:
    """Return what each rank saved last, without the clock readings, which no two runs share."""
    store = CheckpointStore(directory, world_size)
    manifest = store.manifests()[0]
    states = [store.read_shard(manifest, rank) for rank in range(world_size)]
    for state in states:
        del state["gossip"]["seconds"]
        report = state["report"]
        kept = {"step", "split", "epoch", "loss", "lr", "accuracy", "top5_accuracy", "consensus_distance", "bytes_sent"}
        state["report"] = {
            **{
                name: {k: report[name][k] for k in ("steps", "examples", "loss")}
                for name in ("window", "since_evaluation")
            },
            **{name: {k: v for k, v in (report[name] or {}).items() if k in kept} for name in ("best", "latest")},
        }
    return states


def assert_same_bits(one: Any, other: Any, where: str = "state") -> None:
    """Compare nested states; tensors bit for bit."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert one.shape == other.shape, where
        assert one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes(), where
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_same_bits(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_same_bits(*pair, f"{where}[{index}]")
    else:
        assert one == other, where
