"""The base of data sets of parallel text: a vocabulary that is learnt once, and batches measured in tokens."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.cache import cache_root
from sgp_core.tasks.datasets import DATASETS, NOT_IDENTITY, Blueprint, Dataset
from sgp_core.tasks.translation.kind import TASK

if TYPE_CHECKING:
    from sgp_core.tasks.translation.task import Translation
    from sgp_core.tasks.translation.text import ParallelText

_USUAL_LENGTH = 32
"""Tokens of a sentence of news; only the cost of a step is estimated by it."""
_LAYOUT = "text-1"
"""Changes when what is kept in the cache changes, so that older files are not read."""


@dataclass(frozen=True)
class TextDataset(Dataset):
    """Text in two languages, to be translated from one to the other."""

    task: ClassVar = TASK
    languages: ClassVar[tuple[str, ...]] = ()
    """The languages to choose from; empty: any."""

    source: str = "en"
    """The language that is translated."""
    target: str = "de"
    """The language it is translated to."""
    vocabulary: int = 8000
    """Most tokens of the joint byte-pair encoding, learnt from the training split."""
    max_tokens: int = 4096
    """Tokens of a batch, per worker and optimizer step: pairs times the longest sentence, so padding counts."""
    max_length: int = 256
    """Tokens of the longest sentence that trains; pairs with a longer one are left out."""
    cache: str | None = field(default=None, metadata=NOT_IDENTITY)
    """Where vocabulary and tokens are kept; null: sgp/ in the user's cache folder."""

    def __post_init__(self) -> None:
        for name in ("source", "target"):
            if self.languages and getattr(self, name) not in self.languages:
                there = " and ".join(self.languages)
                raise ConfigurationError(f"dataset.{name}={getattr(self, name)}: the languages are {there}")
        if self.source == self.target:
            raise ConfigurationError(f"dataset.source and dataset.target are both {self.source}")
        for name, least in (("vocabulary", 8), ("max_length", 2), ("max_tokens", self.max_length)):
            if getattr(self, name) < least:
                what = f"dataset.max_length={least}" if name == "max_tokens" else str(least)
                raise ConfigurationError(f"dataset.{name}={getattr(self, name)}: must be at least {what}")

    def check_training(self, options: Mapping[str, Any]) -> None:
        """Refuse options that text has no use for, or another option for."""
        for option, instead in (
            ("batch_size", "batches of text are measured in tokens; use dataset.max_tokens"),
            ("channels_last", "text has no channels; leave it false"),
        ):
            if option in options:
                raise ConfigurationError(f"training.{option}={options[option]}: {instead}")

    def blueprint(self, batch_size: int) -> Blueprint:
        """Return the size of the vocabulary, and a full batch of sentences of usual length."""
        sentences = max(1, self.max_tokens // _USUAL_LENGTH)
        tokens = ("int64", (sentences, min(self.max_tokens, _USUAL_LENGTH)))
        return Blueprint({"vocabulary": self.vocabulary}, (tokens, tokens))

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a string that changes when the text changes; reading it all is not needed.

        Raises:
            ConfigurationError: as :meth:`check`.
        """

    @abstractmethod
    def read(self) -> dict[str, ParallelText]:
        """Return every split: ``train``, ``val``, and any number whose names begin with ``test``.

        Raises:
            ConfigurationError: the text is damaged.
        """

    def load(self) -> Translation:
        """Learn a vocabulary and encode the text with it, or read both from the cache."""
        from sgp_core.tasks.translation.encoded import load_or_encode
        from sgp_core.tasks.translation.task import Translation

        content = f"{_LAYOUT} {self.fingerprint()} {self.source} {self.target} {self.vocabulary}"
        root = Path(self.cache).expanduser() if self.cache else cache_root()
        entry = root / "text" / hashlib.sha256(content.encode()).hexdigest()[:24]
        path = getattr(self, "path", None)  # the text that ships with a package cannot change
        where = path and f"{path} ({self.source} to {self.target})"
        text = load_or_encode(entry, self.read, self.vocabulary, DATASETS.name_of(type(self)), where)
        return Translation(text, (self.source, self.target), self.max_tokens, self.max_length)
