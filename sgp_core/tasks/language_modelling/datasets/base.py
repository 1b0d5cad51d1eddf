"""The bases of data sets of text to predict: windows of fixed length, and a vocabulary that is learnt once."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.cache import cache_root
from sgp_core.tasks.datasets import DATASETS, NOT_IDENTITY, Blueprint, Dataset
from sgp_core.tasks.language_modelling.kind import TASK
from sgp_core.validation import at_least, require

if TYPE_CHECKING:
    from sgp_core.tasks.language_modelling.corpus import Document
    from sgp_core.tasks.language_modelling.task import LanguageModelling

_LEAST_VOCABULARY = 257
"""Every byte, and the end of a document."""
_LAYOUT = "language-1"
"""Changes when what is kept in the cache changes, so that older files are not read."""


@dataclass(frozen=True)
class LanguageDataset(Dataset):
    """Text, of which every token is predicted from those before it."""

    task: ClassVar = TASK
    labelled: ClassVar = True  # by source

    vocabulary: int = 8192
    """Tokens that a model knows, at most."""
    context: int = 256
    """Tokens of a window: what a model sees at most."""

    def __post_init__(self) -> None:
        at_least(_LEAST_VOCABULARY, "dataset.vocabulary", self.vocabulary)
        at_least(2, "dataset.context", self.context)

    def check_training(self, options: Mapping[str, Any]) -> None:
        """Refuse options that text has no use for."""
        if options.get("channels_last"):
            raise ConfigurationError("training.channels_last=true: text has no channels; leave it false")

    def blueprint(self, batch_size: int) -> Blueprint:
        """Return the size of the vocabulary, and a batch of windows."""
        facts = {"vocabulary": self.vocabulary, "context": self.context}
        return Blueprint(facts, (("int64", (batch_size, self.context)),))


@dataclass(frozen=True)
class DocumentDataset(LanguageDataset):
    """Documents, whose vocabulary is learnt once."""

    vocabulary: int = 8192
    """Most tokens of the byte-level byte-pair encoding, learnt from the documents that train."""
    validation_share: float = 0.05
    """Part of the text that validates, in whole documents."""
    cache: str | None = field(default=None, metadata=NOT_IDENTITY)
    """Where vocabulary and tokens are kept; null: sgp/ in the user's cache folder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        share = self.validation_share
        require(0 < share < 1, "dataset.validation_share", "between 0 and 1", share)

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a string that changes when the text changes.

        Raises:
            ConfigurationError: as :meth:`check`.
        """

    @abstractmethod
    def read(self) -> tuple[Sequence[Document], Sequence[Document]]:
        """Return the documents that train, and those that validate.

        Raises:
            ConfigurationError: the text is missing or damaged.
        """

    def load(self) -> LanguageModelling:
        """Learn a vocabulary and encode the text with it, or read both from the cache."""
        from sgp_core.tasks.language_modelling.streams import load_or_encode_documents
        from sgp_core.tasks.language_modelling.task import LanguageModelling

        content = f"{_LAYOUT} {self.fingerprint()} {self.validation_share} {self.vocabulary}"
        root = Path(self.cache).expanduser() if self.cache else cache_root()
        entry = root / "text" / hashlib.sha256(content.encode()).hexdigest()[:24]
        where = getattr(self, "path", None)  # the text that ships with a package cannot change
        name = DATASETS.name_of(type(self))
        return LanguageModelling(load_or_encode_documents(entry, self.read, self.vocabulary, name, where), self.context)
