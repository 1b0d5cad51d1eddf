"""The translation task: cross entropy per token, perplexity, BLEU."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sgp_core.tasks.base import VALIDATION, Batch, Task
from sgp_core.tasks.models import Model
from sgp_core.tasks.text.tokenizer import TOKENIZER
from sgp_core.tasks.translation.batches import TokenSampler
from sgp_core.tasks.translation.encoded import Encoded, SentencePairs
from sgp_core.tasks.translation.models.base import TranslationModel
from sgp_core.tasks.translation.text import TRAIN
from sgp_core.tasks.translation.tokens import PAD

if TYPE_CHECKING:
    from sgp_core.tasks.translation.transformer import TransformerNetwork

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Translation(Task):
    """Loaded parallel text. Models take source and target so far and return logits ``[B, T, vocabulary]``."""

    statistics_size: ClassVar = 2

    text: Encoded
    languages: tuple[str, str]
    """Source and target."""
    max_tokens: int
    """Tokens of a batch, padding included."""
    max_length: int
    """Tokens of the longest sentence that trains."""

    def sampler(self, world_size: int, rank: int, batch_size: int, seed: int) -> TokenSampler:
        """Return batches by tokens; ``batch_size`` is not used."""
        pairs = self.text.splits[TRAIN]
        lengths = pairs.sources.lengths, pairs.targets.lengths - 1
        sampler = TokenSampler(*lengths, world_size, rank, self.max_tokens, self.max_length, seed)
        if rank == 0:
            _LOGGER.info("%d of %d pairs are left out of every epoch", sampler.left_out, len(pairs))
        return sampler

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> Batch:
        """Return sources ``[B, S]``, targets without their ends ``[B, T]``, and the next tokens ``[B, T]``."""
        return _batch(self.text.splits[TRAIN], indices.numpy())

    def build(self, model: Model) -> nn.Module:
        """Return a new model for this vocabulary."""
        assert isinstance(model, TranslationModel), "refused by check_task"
        return model.build(self.text.bpe.size)

    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        """Return the mean cross entropy of tokens, with label smoothing as in Szegedy et al. (2016)."""
        logits = outputs.float().flatten(0, 1)
        return cross_entropy(logits, targets.flatten(), ignore_index=PAD, label_smoothing=smoothing)

    def validation_indices(self, rank: int, world_size: int, batch_size: int) -> Sequence[Tensor]:
        """Return every ``world_size``-th pair, by length: at most ``batch_size`` and ``max_tokens`` of them a batch."""
        pairs = self.text.splits[VALIDATION]
        lengths = np.maximum(pairs.sources.lengths, pairs.targets.lengths)
        mine = lengths.argsort(kind="stable")[rank::world_size]
        batches = []
        while len(mine):
            fitting = int((np.arange(1, len(mine) + 1) * lengths[mine] <= self.max_tokens).sum())
            some, mine = np.split(mine, [min(batch_size, max(1, fitting))])
            batches.append(torch.from_numpy(some))
        return batches

    def validation_batch(self, indices: Tensor) -> Batch:
        """Return pairs of the validation split, as :meth:`batch` does."""
        return _batch(self.text.splits[VALIDATION], indices.numpy())

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed negative log-likelihood of tokens, and their number."""
        logits = outputs.float().flatten(0, 1)
        loss = cross_entropy(logits, targets.flatten(), ignore_index=PAD, reduction="sum")
        return torch.stack([loss.double(), (targets != PAD).sum().double()])

    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Return the loss per token, in nats, and the perplexity, its exponential."""
        loss = sums[0] / sums[1]
        return {"loss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf}

    @property
    def generated_splits(self) -> tuple[str, ...]:
        """The splits that are translated to be scored."""
        return tuple(self.text.references)

    def generate(self, model: nn.Module, split: str, rank: int, world_size: int) -> list[float]:
        """Translate every ``world_size``-th sentence by beam search; return what BLEU is computed from."""
        from sgp_core.tasks.translation.beam import translate
        from sgp_core.tasks.translation.scoring import statistics

        sources = self.text.splits[split].sources
        mine = sources.lengths.argsort(kind="stable")[rank::world_size].tolist()
        hypotheses = self.text.bpe.decode(
            translate(cast("TransformerNetwork", model), [sources.row(index) for index in mine])
        )
        references = self.text.references[split]
        return [float(number) for number in statistics(hypotheses, [references[index] for index in mine]).to_list()]

    def generation_scores(self, sums: Sequence[float]) -> dict[str, Any]:
        """Return corpus BLEU and sacrebleu's signature."""
        from sgp_core.tasks.translation.scoring import Statistics

        score = Statistics.from_list(sums).score()
        return {"bleu": score.bleu, "bleu_signature": score.signature}

    def describe(self) -> dict[str, Any]:
        """Return the languages, the size of the vocabulary, and the tokenizer's file and its hash."""
        source, target = self.languages
        return {
            "source": source,
            "target": target,
            "vocabulary": self.text.bpe.size,
            "tokenizer": TOKENIZER,
            "tokenizer_sha256": self.text.bpe.digest,
        }

    def state(self) -> dict[str, str]:
        """Return the tokenizer's hash: with another vocabulary, a model's embeddings mean nothing."""
        return {"tokenizer": self.text.bpe.digest}

    def content(self) -> dict[str, Any]:
        """Return the numbers of pairs, and a hash of their tokens."""
        return self.text.content

    def export(self, folder: Path) -> None:
        """Write the tokenizer."""
        self.text.bpe.save(folder / TOKENIZER)


def _batch(pairs: SentencePairs, rows: np.ndarray) -> Batch:
    source, target = (torch.from_numpy(side.pad_rows(rows)) for side in (pairs.sources, pairs.targets))
    so_far, following = target[:, :-1], target[:, 1:]
    so_far = so_far.where(following != PAD, PAD)  # the end of a shorter sentence has no next token
    return Batch((source, so_far), following.contiguous(), (following != PAD).sum(dim=1))
