"""A trainer as timm writes it: a scaler object, accumulation, Lookahead, a deep copy as EMA, a last batch for some."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import sgp_core


class Lookahead(torch.optim.Optimizer):
    """Steps ``base``, and every ``k`` steps pulls the slow weights half of the way."""

    def __init__(self, base: torch.optim.Optimizer, k: int = 3) -> None:
        self._base = base
        super().__init__([p for group in base.param_groups for p in group["params"]], {"k": k})
        self._count = 0
        self._slow = [p.detach().clone() for group in base.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:  # type: ignore[override]
        loss = self._base.step(closure)
        self._count += 1
        if self._count % self.param_groups[0]["k"] == 0:
            for slow, fast in zip(self._slow, (p for g in self._base.param_groups for p in g["params"]), strict=True):
                slow.add_(fast - slow, alpha=0.5)
                fast.copy_(slow)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        self._base.zero_grad(set_to_none)


class EMA:
    def __init__(self, model: nn.Module) -> None:
        self.module = copy.deepcopy(model).eval()

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for mine, theirs in zip(self.module.state_dict().values(), model.state_dict().values(), strict=True):
            mine.copy_(0.9 * mine + 0.1 * theirs)


class NativeScaler:
    """Scales, clips and steps; on the CPU its scaler is switched off, as timm's is."""

    def __init__(self) -> None:
        self._scaler = torch.amp.GradScaler("cpu", enabled=False)

    def __call__(self, loss: Tensor, optimizer: torch.optim.Optimizer, parameters: Any, *, update: bool) -> None:
        self._scaler.scale(loss).backward()
        if update:
            self._scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            self._scaler.step(optimizer)
            self._scaler.update()


class Trainer:
    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.folder, self.rank = folder, dist.get_rank()
        self.data = torch.Generator().manual_seed(20 + self.rank)
        self.model = nn.Sequential(nn.Linear(12, 32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 3))
        self.scaler = NativeScaler()

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.gossip = sgp_core.Gossip(
            self.model,
            optimizer,
            algorithm="sgp",
            topology="ring",
            process_group=dist.new_group(),  # which does not survive a deadlock
            patience_s=2,
        )

    def adamw(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.model.parameters(), lr=5e-3)

    def epoch(self, batches: int, accumulate: int = 2) -> float:
        for number in range(batches):
            inputs = torch.randn(16, 12, generator=self.data)
            loss = nn.functional.cross_entropy(self.model(inputs), inputs[:, :3].argmax(1)) / accumulate
            update = (number + 1) % accumulate == 0
            self.scaler(loss, self.optimizer, self.model.parameters(), update=update)
            if update:
                self.optimizer.zero_grad()
        return accumulate * loss.item()


def accumulation_and_ema(folder: Path) -> dict[str, float]:
    trainer = Trainer(folder)
    trainer.attach(trainer.adamw())
    ema = EMA(trainer.model)
    before = trainer.epoch(2)
    for _ in range(12):
        after = trainer.epoch(8)
        ema.update(trainer.model)
    path = folder / f"ema-{trainer.rank}.pt"
    torch.save(ema.module.state_dict(), path)
    return {"before": before, "after": after, "bytes": path.stat().st_size}


def lookahead(folder: Path) -> dict[str, float]:
    trainer = Trainer(folder)
    trainer.attach(Lookahead(trainer.adamw()))
    before = trainer.epoch(2)
    for _ in range(12):
        after = trainer.epoch(8)
    return {"before": before, "after": after, "apart": trainer.gossip.consensus_distance(), "step": trainer.gossip.step}


def inside_of_lookahead(folder: Path) -> None:
    """Gossip knows the optimizer that Lookahead steps, and not Lookahead, which moves the parameters afterwards."""
    trainer = Trainer(folder)
    trainer.attach(trainer.adamw())
    trainer.optimizer = Lookahead(trainer.optimizer)
    trainer.epoch(2)


def another_optimizer(folder: Path) -> None:
    trainer = Trainer(folder)
    trainer.attach(trainer.adamw())
    trainer.epoch(4)
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    trainer.epoch(4)


def one_batch_more(folder: Path) -> None:
    trainer = Trainer(folder)
    trainer.attach(trainer.adamw())
    trainer.epoch(4 + 2 * (dist.get_rank() == 0))
    trainer.gossip.finish()
    with trainer.gossip.averaged():
        pass


def one_batch_more_joined(folder: Path) -> dict[str, float]:
    trainer = Trainer(folder)
    trainer.attach(trainer.adamw())
    with trainer.gossip.join():
        trainer.epoch(4 + 2 * (dist.get_rank() == 0))
    with trainer.gossip.averaged():
        pass
    return {"step": trainer.gossip.step, "apart": trainer.gossip.consensus_distance()}
