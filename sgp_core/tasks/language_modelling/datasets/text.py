"""Any text, in files; without a path, the verses that ship with this package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.language_modelling.corpus import DocumentUnit
from sgp_core.tasks.language_modelling.datasets.base import DocumentDataset
from sgp_core.validation import one_of

if TYPE_CHECKING:
    from sgp_core.tasks.language_modelling.corpus import Document


@DATASETS.register("text")
@dataclass(frozen=True)
class TextFiles(DocumentDataset):
    """Files ``.txt``, ``.rst`` and ``.md``, plain or ``.gz``; without a path, short verses in English to try it.

    The verses are those of the data set ``verses``, one a document: 112,000 bytes, of which its books ``val`` validate.
    """

    vocabulary: int = 2048
    """Most tokens of the byte-level byte-pair encoding, learnt from the documents that train."""
    path: str | None = None
    """A file, a folder or a pattern such as ``notes/**/*.md``; null: the verses that ship with this package."""
    documents: DocumentUnit = DocumentUnit.file
    """What a document is: a file, a paragraph or a line."""
    validation_path: str | None = None
    """The text that validates, given like ``path``; null: ``validation_share`` of the documents."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(DocumentUnit, "dataset.documents", self.documents)
        if self.validation_path and not self.path:
            raise ConfigurationError("dataset.validation_path without dataset.path: give both, or neither")

    def check(self) -> None:
        """Refuse a path without text."""
        self._files()

    def fingerprint(self) -> str:
        """Return a hash of the content of all files."""
        from sgp_core.tasks.language_modelling.corpus import hash_files

        return " ".join([*map(hash_files, self._files()), self._unit])

    def read(self) -> tuple[Sequence[Document], Sequence[Document]]:
        """Read all documents; those that validate do not train."""
        from sgp_core.tasks.language_modelling.corpus import hold_out, read_documents

        documents, *rest = (read_documents(files, self._unit) for files in self._files())
        if not rest:
            return hold_out(documents, self.validation_share)
        held = {document.text for document in rest[0]}
        return [document for document in documents if document.text not in held], rest[0]

    @property
    def _unit(self) -> DocumentUnit:
        return DocumentUnit(self.documents) if self.path else DocumentUnit.line

    def _files(self) -> list[list[Path]]:
        """Return the files of text, then those that validate if they are given."""
        from sgp_core.tasks.language_modelling.corpus import find_files

        if self.path:
            return [find_files(path) for path in (self.path, self.validation_path) if path]
        from sgp_core.tasks import text

        verses = Path(text.__path__[0]) / "verses"
        return [[verses / "train.en.gz"], [verses / "val.en.gz"]]
