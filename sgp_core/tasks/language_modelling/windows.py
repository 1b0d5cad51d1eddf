"""Windows of fixed length over a stream of tokens: the examples of language modelling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from sgp_core.tasks.base import Batch

IGNORED = -100
"""In the place of a target: there is no token to predict."""
_FILL = 0
"""In the place of a token after the last: no target follows it."""


class Stream(Protocol):
    """Tokens in a row."""

    @property
    def starts(self) -> np.ndarray:
        """Where each document begins, or another part that is of one source; rising int64 ``[parts]``."""

    @property
    def sources(self) -> np.ndarray:
        """The source of each part, int64 ``[parts]``."""

    def __len__(self) -> int:
        """Return the number of tokens."""

    def take(self, places: np.ndarray) -> np.ndarray:
        """Return the tokens at ``places`` ``[B, T]`` as int64."""


@dataclass(frozen=True)
class Windows:
    """A stream cut into windows of ``context`` tokens to predict, each from those before it in its window.

    Documents are packed: a window goes on with the next one, and attention is not cut between them, as for GPT-2. Every
    token but the stream's first is a target of one window.

    Attributes:
        whole: leave out what does not fill a last window; else its empty places are ignored.
    """

    stream: Stream
    context: int
    whole: bool

    def __len__(self) -> int:
        """Return the number of windows."""
        targets = len(self.stream) - 1
        return targets // self.context if self.whole else -(-targets // self.context)

    @property
    def sources(self) -> np.ndarray:
        """Return the source of the document that each window begins in, int64 ``[windows]``."""
        begins = np.arange(len(self)) * self.context
        documents = np.searchsorted(self.stream.starts, begins, side="right") - 1
        found: np.ndarray = self.stream.sources[documents]
        return found

    def batch(self, indices: torch.Tensor) -> Batch:
        """Return the windows at ``indices``, int64 ``[B]``: inputs and targets, both int64 ``[B, context]``."""
        at = indices.numpy()[:, None] * self.context + np.arange(self.context + 1)
        inside = at < len(self.stream)
        tokens = self.stream.take(np.minimum(at, len(self.stream) - 1))
        inputs, targets = np.where(inside, tokens, _FILL)[:, :-1], np.where(inside, tokens, IGNORED)[:, 1:]
        counts = torch.from_numpy(inside[:, 1:].sum(axis=1))
        return Batch((torch.from_numpy(inputs.copy()),), torch.from_numpy(targets.copy()), counts)
