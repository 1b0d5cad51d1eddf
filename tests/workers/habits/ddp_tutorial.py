"""A trainer as torch's tutorial on DDP writes it: a snapshot of rank 0, which every rank loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import sgp_core


class Trainer:
    def __init__(self, model: nn.Module, loader: DataLoader[Any], snapshot: Path) -> None:
        self.model = model
        self.loader = loader
        self.snapshot = snapshot
        self.first_epoch = 0

    def gossip(self, model: nn.Module | None = None) -> None:
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        self._gossip = sgp_core.Gossip(model or self.model, self.optimizer, algorithm="sgp", topology="ring")

    def run_epoch(self, epoch: int) -> float:
        self.loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for inputs, targets in self.loader:
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.model(inputs), targets)
            loss.backward()
            self.optimizer.step()
        return loss.item()

    def save(self, epoch: int) -> None:
        if dist.get_rank() == 0:
            torch.save({"model": self.model.state_dict(), "epochs": epoch + 1}, self.snapshot)
        dist.barrier()

    def load(self) -> None:
        snapshot = torch.load(self.snapshot, weights_only=True)
        self.model.load_state_dict(snapshot["model"])
        self.first_epoch = snapshot["epochs"]


def make_trainer(folder: Path) -> Trainer:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(256, 16, generator=generator)
    data = TensorDataset(inputs, (inputs[:, :4].argmax(1)))
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    return Trainer(model, DataLoader(data, batch_size=16, sampler=DistributedSampler(data)), folder / "snapshot.pt")


def ddp_left_in(folder: Path) -> None:
    trainer = make_trainer(folder)
    trainer.gossip(DistributedDataParallel(trainer.model))


def ddp_around_it_later(folder: Path) -> None:
    trainer = make_trainer(folder)
    trainer.gossip()
    trainer.model = DistributedDataParallel(trainer.model)
    trainer.run_epoch(0)


def snapshot_of_rank_0(folder: Path) -> dict[str, float]:
    """Train, save on rank 0, and let every rank of a new run load that and go on."""
    first = make_trainer(folder)
    first.gossip()
    before = first.run_epoch(0)
    for epoch in (1, 2):
        first.run_epoch(epoch)
        first.save(epoch)
    again = make_trainer(folder)
    again.load()
    again.gossip()
    return {"before": before, "after": again.run_epoch(again.first_epoch), "epoch": again.first_epoch}


def module_dot(folder: Path) -> None:
    trainer = make_trainer(folder)
    trainer.gossip()
    print(trainer.model.module.state_dict())
