"""A trainer as torchvision's reference scripts write it: EMA, frozen backbone, warm-up, evaluation, save on master."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.lr_scheduler import LinearLR, SequentialLR, StepLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import sgp_core


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(4))
        self.head = nn.Linear(32, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images).flatten(1))


class Trainer:
    def __init__(self, folder: Path, *, frozen: bool = False) -> None:
        torch.manual_seed(0)
        self.folder, self.rank = folder, dist.get_rank()
        self.data = torch.Generator().manual_seed(10 + self.rank)
        self.model = Net().to(memory_format=torch.channels_last)
        if frozen:
            self.model.backbone.requires_grad_(False)
        self.ema = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(trainable, lr=0.1, momentum=0.9, weight_decay=1e-4)
        warmup = LinearLR(self.optimizer, start_factor=0.1, total_iters=2)
        self.schedule = SequentialLR(self.optimizer, [warmup, StepLR(self.optimizer, 4, 0.5)], [2])
        self.gossip = sgp_core.Gossip(self.model, self.optimizer, algorithm="sgp", topology="ring")

    def batch(self) -> tuple[Tensor, Tensor]:
        targets = torch.randint(4, (16,), generator=self.data)
        images = 0.3 * torch.randn(16, 1, 8, 8, generator=self.data)
        for image, target in zip(images, targets.tolist(), strict=True):
            image[:, 4 * (target // 2) : 4 * (target // 2) + 4, 4 * (target % 2) : 4 * (target % 2) + 4] += 1
        return images, targets

    def epoch(self, steps: int = 5) -> None:
        self.model.train()
        for _ in range(steps):
            images, targets = self.batch()
            loss = nn.functional.cross_entropy(self.model(images), targets, label_smoothing=0.1)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.ema.update_parameters(self.model)
        self.schedule.step()

    @torch.inference_mode()
    def evaluate(self, model: nn.Module) -> float:
        model.eval()
        images, targets = self.batch()
        right = model(images).argmax(1).eq(targets).sum()
        dist.all_reduce(right)
        return float(right) / (len(targets) * dist.get_world_size())

    def checkpoint(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }


def evaluation_on_all_ranks(folder: Path) -> dict[str, float]:
    trainer = Trainer(folder)
    for _ in range(4):
        trainer.epoch()
    with trainer.gossip.averaged():
        averaged = trainer.evaluate(trainer.model)
    return {"averaged": averaged, "ema": trainer.evaluate(trainer.ema)}


def save_on_master(folder: Path) -> dict[str, float]:
    """Rank 0 saves model, EMA, optimizer and schedule; each rank of a new run loads all of it and goes on."""
    trainer = Trainer(folder)
    trainer.epoch()
    if trainer.rank == 0:
        torch.save(trainer.checkpoint(), folder / "checkpoint.pt")
    dist.barrier()
    size = (folder / "checkpoint.pt").stat().st_size
    trainer.gossip.close()
    again = Trainer(folder)
    checkpoint = torch.load(folder / "checkpoint.pt", weights_only=True)
    again.model.load_state_dict(checkpoint["model"])
    again.ema.load_state_dict(checkpoint["ema"])
    again.optimizer.load_state_dict(checkpoint["optimizer"])
    again.schedule.load_state_dict(checkpoint["schedule"])
    apart = again.gossip.consensus_distance()
    for _ in range(3):
        again.epoch()
    return {"apart": apart, "bytes": size, "ema": again.evaluate(again.ema)}


def unfreeze_later(folder: Path) -> None:
    trainer = Trainer(folder, frozen=True)
    trainer.epoch()
    trainer.model.backbone.requires_grad_(True)
    trainer.optimizer.add_param_group({"params": list(trainer.model.backbone.parameters())})
    trainer.epoch()


def load_by_assignment(folder: Path) -> None:
    trainer = Trainer(folder)
    trainer.epoch()
    trainer.model.load_state_dict({k: v.clone() for k, v in trainer.model.state_dict().items()}, assign=True)
    trainer.epoch()
