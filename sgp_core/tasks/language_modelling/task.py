"""The language modelling task: cross entropy per token, perplexity, bits per byte."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.base import VALIDATION, Batch, Task
from sgp_core.tasks.language_modelling.models.base import LanguageModel
from sgp_core.tasks.language_modelling.shards import ShardedText
from sgp_core.tasks.language_modelling.streams import TRAIN, EncodedText
from sgp_core.tasks.language_modelling.windows import IGNORED, Windows
from sgp_core.tasks.models import Model
from sgp_core.tasks.sharding import ExampleSampler
from sgp_core.tasks.text.tokenizer import TOKENIZER

_MOST_LOGITS = 2**26
"""Numbers that a model returns for a batch of validation: 256 MB."""


@dataclass(frozen=True)
class LanguageModelling(Task):
    """Loaded text. Models take tokens ``[B, context]`` and return logits ``[B, context, vocabulary]``.

    Raises:
        ConfigurationError: the text that trains does not fill a window.
    """

    statistics_size: ClassVar = 3

    text: EncodedText | ShardedText
    context: int
    """Tokens of a window."""

    def __post_init__(self) -> None:
        if not len(self._train):
            raise ConfigurationError(
                f"the text that trains has {len(self._train.stream)} tokens, and a window needs one more than "
                f"dataset.context={self.context}; use a smaller one, or more text"
            )

    @cached_property
    def _train(self) -> Windows:
        return Windows(self.text.splits[TRAIN], self.context, whole=True)

    @cached_property
    def _validation(self) -> Windows:
        return Windows(self.text.splits[VALIDATION], self.context, whole=False)

    @cached_property
    def _token_bytes(self) -> Tensor:
        found = torch.zeros(self.text.vocabulary, dtype=torch.int64)
        sizes = torch.from_numpy(self.text.bpe.token_bytes())
        found[: len(sizes)] = sizes
        return found

    @property
    def labels(self) -> Tensor:
        """Return the source of every window, int64 ``[N]``."""
        return torch.from_numpy(self._train.sources)

    def sampler(self, world_size: int, rank: int, batch_size: int, seed: int) -> ExampleSampler:
        """Return every ``world_size``-th window of an order that is new in each epoch."""
        return ExampleSampler(len(self._train), world_size, rank, batch_size, seed)

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> Batch:
        """Return tokens and the next ones, both ``[B, context]``."""
        return self._train.batch(indices)

    def build(self, model: Model) -> nn.Module:
        """Return a new model for this vocabulary and these windows."""
        assert isinstance(model, LanguageModel), "refused by check_task"
        return model.build(self.text.vocabulary, self.context)

    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        """Return the mean cross entropy of tokens, with label smoothing as in Szegedy et al. (2016)."""
        logits = outputs.float().flatten(0, 1)
        return cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing)

    def flops_per_example(self, model: nn.Module) -> float | None:
        """Return those of a window, if the network counts those of a token."""
        per_token = getattr(model, "flops_per_token", None)
        return None if per_token is None else self.context * per_token(self.context)

    def validation_indices(self, rank: int, world_size: int, batch_size: int) -> Sequence[Tensor]:
        """Return every ``world_size``-th window, few enough at a time for the logits of a large vocabulary."""
        indices = torch.arange(len(self._validation))[rank::world_size]
        fitting = max(1, _MOST_LOGITS // (self.context * self.text.vocabulary))
        return indices.split(min(batch_size, fitting)) if len(indices) else ()

    def validation_batch(self, indices: Tensor) -> Batch:
        """Return windows of the validation split, as :meth:`batch` does; targets after the last token are ignored."""
        return self._validation.batch(indices)

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed negative log-likelihood of tokens, their number, and the bytes they stand for."""
        logits = outputs.float().flatten(0, 1)
        loss = cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="sum")
        tokens = targets[targets != IGNORED]
        count = tokens.new_tensor(len(tokens))
        return torch.stack([loss.double(), count.double(), self._token_bytes.to(tokens.device)[tokens].sum().double()])

    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Return the loss per token, in nats, the perplexity, its exponential, and bits per byte.

        Bits per byte are the length of the text, with the ends of documents, when it is coded with the model's
        probabilities, divided by the bytes of the text: ``sum of -log2 p / bytes``.
        """
        nats, tokens, size = sums
        loss = nats / tokens
        perplexity = math.exp(loss) if loss < 700 else math.inf
        return {"loss": loss, "perplexity": perplexity, "bits_per_byte": nats / math.log(2) / size}

    def describe(self) -> dict[str, Any]:
        """Return the size of the vocabulary and of a window, and the tokenizer's file and its hash."""
        return {
            "vocabulary": self.text.vocabulary,
            "context": self.context,
            "tokenizer": TOKENIZER,
            "tokenizer_sha256": self.text.bpe.digest,
        }

    def state(self) -> dict[str, str]:
        """Return the tokenizer's hash: with another vocabulary, a model's embeddings mean nothing."""
        return {"tokenizer": self.text.bpe.digest}

    def content(self) -> dict[str, Any]:
        """Return the numbers of tokens, and a hash of them."""
        return self.text.content

    def export(self, folder: Path) -> None:
        """Write the tokenizer."""
        self.text.bpe.save(folder / TOKENIZER)
