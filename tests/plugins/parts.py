"""A plug-in as its author writes it: one part of each kind. Tests copy this file; nothing imports it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import prod

from sgp_core.algorithms import ALGORITHMS, OUTERS, Outer, Worker
from sgp_core.algorithms.base import average_exactly
from sgp_core.algorithms.sgp import SGP
from sgp_core.compression.base import COMPRESSIONS, Codec, Coding, Piece
from sgp_core.pacing.base import PACES, Numbers, Pace, Plan
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.images.datasets import ImageDataset
from sgp_core.tasks.images.models import ImageModel
from sgp_core.tasks.models import MODELS
from sgp_core.tasks.partitions.base import PARTITIONS, Assigned
from sgp_core.topology import TOPOLOGIES, Topology
from sgp_core.training.optimizers.base import OPTIMIZERS, OptimizerOptions
from sgp_core.training.schedules.base import SCHEDULES, LearningRateSchedule


class Activation(Enum):
    relu = "relu"
    gelu = "gelu"


@MODELS.register("own_model")
@dataclass(frozen=True)
class OwnModel(ImageModel):
    widths: list[int] = field(default_factory=lambda: [8])
    activation: Activation = Activation.gelu

    def build(self, example, num_classes):
        from torch import nn

        [hidden] = self.widths
        act = nn.GELU() if Activation(self.activation) is Activation.gelu else nn.ReLU()
        return nn.Sequential(nn.Flatten(), nn.Linear(prod(example), hidden), act, nn.Linear(hidden, num_classes))


@DATASETS.register("own_dataset")
@dataclass(frozen=True)
class OwnDataset(ImageDataset):
    noise: float
    examples: int = 64

    def load(self):
        import torch

        from sgp_core.tasks.images.classification import ImageClassification

        class Clouds:
            def __init__(self, seed: int, count: int, noise: float) -> None:
                generator = torch.Generator().manual_seed(seed)
                self.targets = torch.arange(count) % 3
                self.inputs = self.targets.view(-1, 1, 1, 1) + noise * torch.randn(count, 1, 1, 2, generator=generator)

            def __len__(self) -> int:
                return len(self.targets)

            def batch(self, indices, generator=None):
                return self.inputs[indices], self.targets[indices]

        return ImageClassification(Clouds(0, self.examples, self.noise), Clouds(1, 32, self.noise), 3, (1, 1, 2))


@PARTITIONS.register("own_partition")
@dataclass(frozen=True)
class OwnPartition(Assigned):
    def deal(self, order, stock, sizes, rng):
        import numpy as np

        return np.split(order, np.cumsum(sizes)[:-1])


@TOPOLOGIES.register("own_topology")
@dataclass(frozen=True)
class OwnTopology(Topology):
    hops: int = 1

    def out_neighbors(self, rank: int, step: int) -> Sequence[int]:
        peer = (rank + self.hops) % self.world_size
        return [peer] if peer != rank else []


@ALGORITHMS.register("own_algorithm")
@dataclass(frozen=True)
class OwnAlgorithm(SGP):
    beta: float = 0.5

    def receive(self, worker: Worker) -> None:
        super().receive(worker)
        worker.set_number("beta", self.beta)


@OUTERS.register("own_outer")
@dataclass(frozen=True)
class OwnOuter(Outer):
    def outer_step(self, worker: Worker) -> None:
        average_exactly(worker)


@PACES.register("own_pace")
@dataclass(frozen=True)
class OwnPace(Pace):
    skip: int = 2

    def after(self, step: int, numbers: Numbers) -> Plan:
        return Plan(rounds=int(step % self.skip == 0))


@COMPRESSIONS.register("own_codec")
@dataclass(frozen=True)
class OwnCodec(Codec):
    def sections(self, piece: Piece) -> Sequence[tuple[str, int]]:
        return [("float16", piece.numel)]

    def encode(self, vector, message, coding: Coding) -> None:
        message[0].copy_(vector)

    def decode(self, message, out, coding: Coding) -> None:
        out.copy_(message[0])


@OPTIMIZERS.register("own_optimizer")
@dataclass(frozen=True)
class OwnOptimizer(OptimizerOptions):
    def build(self, model):
        from torch.optim import SGD

        return SGD(self.parameter_groups(model), lr=self.lr)


@SCHEDULES.register("own_schedule")
@dataclass(frozen=True)
class OwnSchedule(LearningRateSchedule):
    power: float = 1.0

    def factor(self, step: int, steps_per_epoch: int, total_steps: int, world_size: int) -> float:
        return (1 - step / total_steps) ** self.power
