"""Beam search for the most probable translations.

Shapes: B sentences, K translations kept of each (the beam), V words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from sgp_core.tasks.translation.tokens import BOS, EOS, PAD, UNK
from sgp_core.validation import at_least, require

if TYPE_CHECKING:
    from sgp_core.tasks.translation.transformer import TransformerNetwork

_NEVER = [PAD, BOS, UNK]
"""Tokens that a translation never contains."""


@dataclass(frozen=True)
class Hypothesis:
    """A finished translation."""

    tokens: list[int]
    """Ids, without beginning and end."""
    score: float
    """Log-probability of the tokens and the end, divided by the length penalty."""


@dataclass(frozen=True)
class BeamSearch:
    """Search for the translation with the highest score ``log p(y | x) / lp(y)``.

    The length penalty is that of Wu et al. 2016 (GNMT), equation 14, which the transformer's paper uses too::

        lp(y) = ((5 + |y|) / 6) ** alpha          |y| counts the end of the sentence

    A prefix that ends is replaced: K are always continued. The search for a sentence is over when K of its translations
    have ended, or when no unfinished one can reach the best score. It is deterministic: the same model and sources give
    the same translations.

    Raises:
        ConfigurationError: an option is out of range.
    """

    beam: int = 4
    """Prefixes that are continued, K; with 1 the search is greedy."""
    length_penalty: float = 0.6
    """alpha: 0 prefers short translations, as probabilities do; more prefers longer ones."""
    max_length_factor: float = 1.0
    """A translation has at most this many times the tokens of its source ..."""
    max_length_extra: int = 50
    """... plus this number; longer ones are cut off."""
    batch: int = 64
    """Sentences translated at once, of similar length."""

    def __post_init__(self) -> None:
        for option, least in (("beam", 1), ("batch", 1), ("max_length_extra", 0)):
            at_least(least, option, getattr(self, option))
        for option in ("length_penalty", "max_length_factor"):
            require(0 <= getattr(self, option) < math.inf, option, "zero or more", getattr(self, option))

    @torch.no_grad()
    def __call__(self, model: nn.Module, sources: Sequence[Sequence[int]]) -> list[Hypothesis]:
        """Return the best translation of each source, in the order of the sources.

        Args:
            model: decodes token by token, by ``begin`` and ``step`` as ``translation.transformer.TransformerNetwork``
                does; on any device. It is in evaluation mode meanwhile.
            sources: ids with the end of the sentence, of any length. An empty source has an empty translation.
        """
        found = {index: Hypothesis([], 0.0) for index, source in enumerate(sources) if not source}
        order = sorted((i for i, source in enumerate(sources) if source), key=lambda i: len(sources[i]), reverse=True)
        device = next(model.parameters()).device
        was_training = model.training
        model.eval()
        try:
            for begin in range(0, len(order), self.batch):
                chosen = order[begin : begin + self.batch]
                ids = pad_sequence([torch.tensor(sources[i]) for i in chosen], batch_first=True, padding_value=PAD)
                found |= zip(
                    chosen, _Search(self, cast("TransformerNetwork", model), ids.to(device)).run(), strict=True
                )
        finally:
            model.train(was_training)
        return [found[index] for index in range(len(sources))]

    def penalty(self, length: int) -> float:
        """Return ``lp`` of a translation of ``length`` tokens, its end included."""
        return float(((5 + length) / 6) ** self.length_penalty)


def translate(
    model: nn.Module,
    sources: Sequence[Sequence[int]],
    *,
    beam: int = BeamSearch.beam,
    length_penalty: float = BeamSearch.length_penalty,
    batch: int = BeamSearch.batch,
) -> list[list[int]]:
    """Return the ids of the best translations, without beginning and end: see :class:`BeamSearch`."""
    search = BeamSearch(beam=beam, length_penalty=length_penalty, batch=batch)
    return [hypothesis.tokens for hypothesis in search(model, sources)]


@dataclass
class _Sentence:
    """The finished translations of one sentence."""

    limit: int
    """Most tokens of a translation, its end not counted."""
    ended: list[Hypothesis] = field(default_factory=list)

    @property
    def best(self) -> Hypothesis:
        return max(self.ended, key=lambda hypothesis: hypothesis.score)


class _Search:
    """The search on one batch ``source`` ``[B, S]``; finished sentences leave the batch."""

    def __init__(self, options: BeamSearch, model: TransformerNetwork, source: Tensor) -> None:
        self._options = options
        self._model = model
        self._state = model.begin(source)
        lengths = (source != PAD).sum(dim=1).tolist()
        self._sentences = [_Sentence(int(options.max_length_factor * n) + options.max_length_extra) for n in lengths]
        self._open = list(self._sentences)
        """The sentence of each row of the tensors below."""
        self._prefixes = torch.full((len(lengths), options.beam, 1), BOS, device=source.device)
        self._scores = torch.full((len(lengths), options.beam), -torch.inf, device=source.device)
        self._scores[:, 0] = 0.0  # at first all prefixes are the same, so one may win

    def run(self) -> list[Hypothesis]:
        """Return the best translation of each sentence of the batch."""
        for length in count(1):
            if not self._open:
                break
            self._advance(length)
        return [sentence.best for sentence in self._sentences]

    def _advance(self, length: int) -> None:
        """Make every prefix one token longer; ``length`` counts the new token."""
        beam = self._options.beam
        scores, rows, words = self._candidates(length)
        ended = words == EOS
        self._collect(scores, rows, ended, length)
        # Of 2 K candidates at most K ended, one of each row: the best K that have not are there, in order.
        going = ended.byte().argsort(dim=1, stable=True)[:, :beam]
        self._scores, rows, words = (tensor.gather(1, going) for tensor in (scores, rows, words))
        left = self._undone(length)
        kept = torch.tensor(left, dtype=torch.int64, device=rows.device)
        translations = (torch.arange(len(rows), device=rows.device)[:, None] * beam + rows)[kept].flatten()
        self._state.keep(kept, translations)
        before = self._prefixes.flatten(0, 1)[translations].view(len(left), beam, length)
        self._prefixes = torch.cat((before, words[kept][..., None]), dim=2)
        self._scores = self._scores[kept]
        self._open = [self._open[index] for index in left]

    def _candidates(self, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best 2 K continuations of each sentence: log-probability, prefix and word, each ``[B, 2 K]``."""
        logits = self._model.step(self._prefixes[..., -1], self._state).float()
        total = logits.logsumexp(dim=-1)
        logits[..., _NEVER] = -torch.inf
        full = [index for index, sentence in enumerate(self._open) if length > sentence.limit]
        if full:
            end = logits[full, :, EOS]
            logits[full] = -torch.inf
            logits[full, :, EOS] = end
        # The best of all are among the best of each prefix, so no tensor of size V is written.
        best, words = logits.topk(min(2 * self._options.beam, logits.shape[-1]))
        scores = (self._scores - total)[..., None] + best
        scores, places = scores.flatten(1).topk(min(2 * self._options.beam, scores[0].numel()))
        return scores, places // best.shape[-1], words.flatten(1).gather(1, places)

    def _collect(self, scores: Tensor, rows: Tensor, ended: Tensor, length: int) -> None:
        """Add translations that ended, if they are among the best K candidates."""
        beam = self._options.beam
        there = (ended & scores.isfinite())[:, :beam].nonzero()
        sentences, ranks = there.unbind(1)
        rows = rows[sentences, ranks]
        tokens = self._prefixes[sentences, rows, 1:].tolist()
        values = scores[sentences, ranks].tolist()
        for sentence, ids, value in zip(sentences.tolist(), tokens, values, strict=True):
            self._open[sentence].ended.append(Hypothesis(ids, value / self._options.penalty(length)))

    def _undone(self, length: int) -> list[int]:
        """Return the indices of the sentences whose search goes on."""
        left = []
        for index, (sentence, live) in enumerate(zip(self._open, self._scores[:, 0].tolist(), strict=True)):
            full = length > sentence.limit or len(sentence.ended) >= self._options.beam
            # Log-probabilities only fall, and the longest translation is divided by most.
            hope = live / self._options.penalty(sentence.limit + 1)
            if not full and (not sentence.ended or hope > sentence.best.score):
                left.append(index)
        return left
