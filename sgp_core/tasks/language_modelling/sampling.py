"""Continues a sequence of tokens with a language model, a token at a time.

Shapes: V words in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sgp_core.validation import at_least, not_negative, require


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The same options, model and beginning give the same tokens.

    Raises:
        ConfigurationError: an option is out of range.
    """

    temperature: float = 1.0
    """Logits are divided by it; 0: the most probable token is taken."""
    top_k: int | None = None
    """Only the k most probable tokens may be chosen (Fan et al. 2018, section 5.1); None: all."""
    top_p: float = 1.0
    """Only the smallest set of most probable tokens may be chosen that together have this probability (nucleus
    sampling, Holtzman et al. 2020, section 3.1)."""
    seed: int = 0
    """Of the random numbers, which are drawn on the CPU whatever the model computes on."""

    def __post_init__(self) -> None:
        not_negative("temperature", self.temperature)
        at_least(1, "top_k", self.top_k)
        require(0 < self.top_p <= 1, "top_p", "above 0 and at most 1", self.top_p)
        at_least(0, "seed", self.seed)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities ``[V]`` with which tokens are chosen, from logits ``[V]``."""
        if self.temperature == 0:
            return torch.zeros_like(logits).index_fill_(0, logits.argmax(), 1.0)
        ordered, tokens = (logits / self.temperature).sort(descending=True, stable=True)
        if self.top_k is not None:
            ordered = ordered[: self.top_k]
        probable = ordered.softmax(0)
        if self.top_p < 1:
            before = probable.cumsum(0) - probable
            probable = torch.where(before < self.top_p, probable, 0.0)
        return torch.zeros_like(logits).index_copy_(0, tokens[: len(probable)], probable / probable.sum())

    @torch.inference_mode()
    def __call__(self, model: nn.Module, begin: Sequence[int], context: int, choices: int) -> Iterator[int]:
        """Yield tokens that follow ``begin``, for ever.

        A model that can :meth:`~sgp_core.tasks.language_modelling.network.GptNetwork.extend` keeps the keys and values
        of earlier tokens, others compute them again. When ``context`` tokens are full, the older half of them is
        forgotten, and the rest is computed anew from position 0: what a model sees is never longer than a window of
        its training.

        Args:
            model: in evaluation mode; its forward is that of
                :meth:`sgp_core.tasks.language_modelling.models.base.LanguageModel.build`.
            begin: at least one token. Of more than ``context``, the last ones are seen.
            choices: the tokens below this one may be chosen.
        """
        dice = torch.Generator().manual_seed(self.seed)
        device = next(model.parameters()).device
        seen, past = list(begin)[-context:], None
        fresh = seen
        while True:
            logits, past = _extend(model, torch.tensor([fresh], device=device), seen, past)
            chances = self.probabilities(logits[0, :choices].float().cpu())
            token = int(torch.multinomial(chances, 1, generator=dice))
            yield token
            seen = [*seen, token]
            fresh = [token]
            if len(seen) > context:
                seen = seen[-max(1, context // 2) :]
                fresh, past = seen, None


def _extend(model: Any, fresh: Tensor, seen: Sequence[int], past: Any) -> tuple[Tensor, Any]:
    """Return the logits ``[1, V]`` after ``seen``, of which ``fresh`` ``[1, T]`` are not in ``past``."""
    if hasattr(model, "extend"):
        return model.extend(fresh, past)
    return model(torch.tensor([seen], device=fresh.device))[:, -1], None
