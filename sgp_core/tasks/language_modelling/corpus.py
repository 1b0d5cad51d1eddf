"""Documents of text in files. Imports without torch."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.text.files import decode_text, open_text

_TEXT = (".txt", ".rst", ".md", ".txt.gz", ".rst.gz", ".md.gz")
_BETWEEN_PARAGRAPHS = re.compile(r"\n\s*\n")
_BLOCK = 2**20


class DocumentUnit(StrEnum):
    """What a document is."""

    file = "file"
    paragraph = "paragraph"
    """Lines between empty ones."""
    line = "line"


@dataclass(frozen=True)
class Document:
    """A text that belongs together, and the number of the source it is of."""

    text: str
    source: int


def find_files(path: str, endings: Sequence[str] = _TEXT) -> list[Path]:
    """Return the files that ``path`` names, sorted: a file, all those below a folder, or those of a pattern.

    Args:
        endings: of the files of folders and patterns; a file that is named may end in any way.

    Raises:
        ConfigurationError: there are none.
    """
    at = Path(path).expanduser().absolute()
    places = [at] if at.exists() else [Path(found) for found in glob.glob(str(at), recursive=True)]
    files = {at} if at.is_file() else set()
    for place in places:
        below = place.rglob("*") if place.is_dir() else [place]
        files.update(file for file in below if file.name.endswith(tuple(endings)) and file.is_file())
    if not files:
        raise ConfigurationError(f"{path} is no file and holds none that ends in {', '.join(endings)}")
    return sorted(files)


def hash_files(files: Sequence[Path]) -> str:
    """Return a hash of the content of files and of the sources they are of."""
    digest = hashlib.sha256()
    for file, source in zip(files, _sources(files), strict=True):
        digest.update(f"{source} {file.suffix == '.gz'}\0".encode())
        with open_text(file) as content:
            while block := content.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def read_documents(files: Sequence[Path], unit: DocumentUnit) -> list[Document]:
    """Return all documents in order, of equal ones the first.

    A source is what lies in one folder below the one that all files are in: that of a language, a book or a project.

    Raises:
        ConfigurationError: a file is no text.
    """
    found: dict[str, int] = {}
    for file, source in zip(files, _sources(files), strict=True):
        with open_text(file) as content:
            text = decode_text(content.read(), str(file)).removeprefix("\ufeff")
        for part in _parts(text, unit):
            if part.strip():
                found.setdefault(part, source)
    return [Document(text, source) for text, source in found.items()]


def hold_out(documents: Sequence[Document], share: float) -> tuple[list[Document], list[Document]]:
    """Return the documents that train, and those that validate: about ``share`` of the text, at least one of each.

    A hash of its text decides about a document, so that others that come or go move few across.

    Raises:
        ConfigurationError: there are fewer than two.
    """
    if len(documents) < 2:
        raise ConfigurationError(
            f"the text is {len(documents)} document, and validation needs one of its own; "
            "use dataset.documents=paragraph or line, or give dataset.validation_path"
        )
    wanted = share * sum(len(document.text) for document in documents)
    validating: set[str] = set()
    for document in sorted(documents, key=lambda each: hashlib.sha256(each.text.encode()).digest())[:-1]:
        validating.add(document.text)
        wanted -= len(document.text)
        if wanted <= 0:
            break
    held = [document for document in documents if document.text in validating]
    return [document for document in documents if document.text not in validating], held


def _parts(text: str, unit: DocumentUnit) -> Iterator[str]:
    if unit == DocumentUnit.file:
        yield text
    elif unit == DocumentUnit.line:
        yield from text.splitlines()
    else:
        yield from _BETWEEN_PARAGRAPHS.split(text)


def _sources(files: Sequence[Path]) -> list[int]:
    """Return the number of each file's source."""
    parts = [file.parts for file in files]
    depth = 0
    while all(len(each) > depth + 1 for each in parts) and len({each[depth] for each in parts}) == 1:
        depth += 1
    names = [each[depth] if len(each) > depth + 1 else "" for each in parts]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [numbers[name] for name in names]
