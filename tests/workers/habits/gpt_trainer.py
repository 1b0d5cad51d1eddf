"""A small language model's trainer: accumulation, tied weights, a learning rate by hand, evaluation on rank 0."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

import sgp_core

WORDS, CONTEXT = 16, 8


class TinyGPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 24)
        self.block = nn.TransformerEncoderLayer(24, 2, 48, dropout=0.0, batch_first=True)
        self.head = nn.Linear(24, WORDS, bias=False)
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(CONTEXT), persistent=False)

    def forward(self, words: Tensor, targets: Tensor) -> Tensor:
        hidden = self.block(self.embedding(words), src_mask=self.mask, is_causal=True)
        return nn.functional.cross_entropy(self.head(hidden).flatten(0, 1), targets.flatten())


class Trainer:
    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.folder = folder
        self.rank = dist.get_rank()
        self.data = torch.Generator().manual_seed(self.rank)
        self.model = TinyGPT()
        decay = [p for p in self.model.parameters() if p.dim() >= 2]
        rest = [p for p in self.model.parameters() if p.dim() < 2]
        groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))
        self.gossip = sgp_core.Gossip(
            self.model,
            self.optimizer,
            algorithm="sgp",
            topology="one_peer_exponential",
            process_group=dist.new_group(),  # which does not survive a deadlock
            patience_s=2,
        )

    def batch(self) -> tuple[Tensor, Tensor]:
        start = torch.randint(WORDS, (8, 1), generator=self.data)
        words = (start + 3 * torch.arange(CONTEXT + 1)) % WORDS
        return words[:, :-1], words[:, 1:]

    def step(self, number: int) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = 1e-2 * min(1.0, (number + 1) / 5) * 0.5 * (1 + math.cos(math.pi * number / 60))
        for _ in range(2):
            with torch.autocast("cpu", dtype=torch.bfloat16) if number % 2 else nullcontext():
                loss = self.model(*self.batch()) / 2
            loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return 2 * loss.item()

    @torch.no_grad()
    def evaluate(self) -> float:
        self.model.eval()
        loss = sum(self.model(*self.batch()).item() for _ in range(4)) / 4
        self.model.train()
        return loss


def evaluation_on_rank_0(folder: Path) -> dict[str, float]:
    """The others wait in their next step meanwhile; rank 0 takes longer than their patience."""
    trainer = Trainer(folder)
    losses = []
    for number in range(40):
        loss = trainer.step(number)
        if trainer.rank == 0 and number % 10 == 9:
            losses.append(trainer.evaluate())
    return {"first": losses[0] if losses else math.nan, "last": losses[-1] if losses else math.nan, "train": loss}


def averaged_on_rank_0(folder: Path) -> None:
    trainer = Trainer(folder)
    for number in range(4):
        trainer.step(number)
        if trainer.rank == 0 and number == 2:
            with trainer.gossip.averaged():
                trainer.evaluate()


def state_of_rank_0_for_all(folder: Path) -> None:
    trainer = Trainer(folder)
    trainer.step(0)
    path = folder / "gossip.pt"
    state = trainer.gossip.state_dict()
    if trainer.rank == 0:
        torch.save(state, path)
    dist.barrier()
    trainer.gossip.load_state_dict(torch.load(path, weights_only=True))


def snapshot_of_all(folder: Path) -> dict[str, float]:
    """Save with ``gossip.save``, go on in a new trainer, and end with the same bits."""
    ends = []
    for resumed in (False, True):
        trainer = Trainer(folder)
        first = 0
        if resumed:
            first = int(trainer.gossip.load(folder / "snapshot")["step"])
            trainer.data.set_state(torch.load(folder / f"data-{trainer.rank}.pt", weights_only=True))
        for number in range(first, 8):
            trainer.step(number)
            if number == 3 and not resumed:
                trainer.gossip.save(folder / "snapshot", extra={"step": number + 1})
                torch.save(trainer.data.get_state(), folder / f"data-{trainer.rank}.pt")
        ends.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
        trainer.gossip.close()
    return {"difference": float((ends[0] - ends[1]).abs().max())}
