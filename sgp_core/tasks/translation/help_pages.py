"""Sentence pairs out of LibreOffice's help, whose pages exist in many languages. Imports without torch."""

from __future__ import annotations

import hashlib
import html
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.base import VALIDATION
from sgp_core.tasks.translation.text import TRAIN, ParallelText

_PARAGRAPH = re.compile(r'<(p|h[1-6])\b[^>]*?\bid="([^"]+)"[^>]*>(.*?)</\1>', re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_SENTENCE_ENDS = re.compile(r"(?<=[.!?]) (?=[A-ZÄÖÜ])")
_WORDS = range(3, 41)
_HELD_OUT = {0: VALIDATION, 1: "test"}
"""Of every 40 pages, one validates and one tests."""


class HelpPages:
    """The folders of two languages; pages match by file name, paragraphs by id.

    A sentence is paired if its paragraph has equally many in both languages. Pairs have 3 to 40 words, differ, and
    occur once. Pages, not sentences, are divided between training, validation and test, and held-out sentences are not
    in training.
    """

    def __init__(self, source: Path, target: Path) -> None:
        self._source = source
        self._target = target
        self._pages = sorted(path.relative_to(source) for path in source.glob("text/**/*.html"))
        self._pages = [page for page in self._pages if (target / page).is_file()]

    def __len__(self) -> int:
        """Return the number of pages that both languages have."""
        return len(self._pages)

    def fingerprint(self) -> str:
        """Return a hash of the names and the content of all pages."""
        digest = hashlib.sha256()
        for page in self._pages:
            digest.update(f"{page}\0".encode())
            for folder in (self._source, self._target):
                digest.update(_content(folder / page))
        return digest.hexdigest()

    def read(self) -> dict[str, ParallelText]:
        """Return every split."""
        splits: dict[str, dict[tuple[str, str], None]] = {"test": {}, VALIDATION: {}, TRAIN: {}}
        for page in self._pages:
            split = _HELD_OUT.get(zlib.crc32(page.as_posix().encode()) % 40, TRAIN)
            splits[split].update(dict.fromkeys(self._sentences(page)))
        known: set[str] = set()
        found = {}
        for split, pairs in splits.items():
            kept = [pair for pair in pairs if not known & set(pair)]
            known |= {side for pair in pairs for side in pair} if split != TRAIN else set()
            found[split] = ParallelText([source for source, _ in kept], [target for _, target in kept])
        return {split: found[split] for split in (TRAIN, VALIDATION, "test")}

    def _sentences(self, page: Path) -> Iterator[tuple[str, str]]:
        target = _paragraphs(self._target / page)
        for name, text in _paragraphs(self._source / page).items():
            other = target.get(name, "")
            sides = _SENTENCE_ENDS.split(text), _SENTENCE_ENDS.split(other)
            for one, two in zip(*sides, strict=True) if len(sides[0]) == len(sides[1]) else [(text, other)]:
                if one != two and len(one.split()) in _WORDS and len(two.split()) in _WORDS:
                    yield one, two


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error


def _paragraphs(path: Path) -> dict[str, str]:
    """Return the text of every paragraph and heading by its id, the first of equal ones."""
    found: dict[str, str] = {}
    for _, name, content in _PARAGRAPH.findall(_content(path).decode(errors="replace")):
        found.setdefault(name, " ".join(html.unescape(_TAG.sub("", content)).split()))
    return found
