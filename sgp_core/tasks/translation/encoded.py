"""Parallel text as tokens: encoded once, kept in the user's cache, and memory-mapped by all processes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.base import VALIDATION
from sgp_core.tasks.cache import digest_of, load_or_make
from sgp_core.tasks.content import say_changes
from sgp_core.tasks.translation.bpe import Bpe
from sgp_core.tasks.translation.text import TRAIN, ParallelText
from sgp_core.tasks.translation.tokens import BOS, EOS, PAD

_AT_ONCE = 1 << 16
"""Lines encoded at a time: as lists, tokens take ten times the memory."""


@dataclass(frozen=True)
class Sentences:
    """Rows of tokens of unequal length: row i is ``tokens[offsets[i]:offsets[i + 1]]``."""

    tokens: np.ndarray
    """int32 ``[total]``; possibly a memory-mapped file."""
    offsets: np.ndarray
    """int64 ``[N + 1]``."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64 ``[N]``."""
        return np.diff(self.offsets)

    def row(self, index: int) -> list[int]:
        """Return one row."""
        found: list[int] = self.tokens[self.offsets[index] : self.offsets[index + 1]].tolist()
        return found

    def pad_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as int64 ``[len(rows), longest]``, with padding at their ends."""
        begin, end = self.offsets[rows], self.offsets[rows + 1]
        at = begin[:, None] + np.arange((end - begin).max())
        inside = at < end[:, None]
        return np.where(inside, self.tokens[np.where(inside, at, 0)], PAD).astype(np.int64)


@dataclass(frozen=True)
class SentencePairs:
    """A split: sources end with EOS, targets begin with BOS and end with EOS."""

    sources: Sentences
    targets: Sentences

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.sources)


@dataclass(frozen=True)
class Encoded:
    """All splits as tokens, with the encoding that turns them into text again."""

    bpe: Bpe
    splits: dict[str, SentencePairs]
    references: dict[str, list[str]]
    """The original target text of every split but the training split."""

    @cached_property
    def digest(self) -> str:
        """A hash of all this, by which damage to what is kept, and other text, are noticed."""
        sides = (side for pairs in self.splits.values() for side in (pairs.sources, pairs.targets))
        arrays = (array for side in sides for array in (side.tokens, side.offsets))
        return digest_of(arrays, self.bpe.content, list(self.splits), self.references)

    @property
    def content(self) -> dict[str, Any]:
        """The numbers of pairs and the hash: see :meth:`sgp_core.tasks.base.Task.content`."""
        train, validation = (len(self.splits[split]) for split in (TRAIN, VALIDATION))
        return {"training pairs": train, "validation pairs": validation, "content": self.digest}


def load_or_encode(
    folder: Path,
    read: Callable[[], Mapping[str, ParallelText]],
    vocabulary: int,
    name: str,
    where: str | None = None,
) -> Encoded:
    """Return the text encoded in ``folder``; the first process learns the vocabulary and encodes while the others wait.

    Args:
        folder: in the cache.
        read: returns the text.
        vocabulary: most tokens.
        name: of the data set.
        where: the path of the text. If it has changed since it was loaded last, a warning says so.

    Raises:
        ConfigurationError: ``read`` raised it, or there is no text.
    """

    made = load_or_make(folder, _load, lambda: encode(read(), vocabulary, name), _fill, what="encoded text")
    assert made is not None
    if where is not None:
        say_changes(folder.parent, where, made.content, name, vocabulary)
    return made


def encode(text: Mapping[str, ParallelText], vocabulary: int, name: str) -> Encoded:
    """Learn a joint vocabulary from the training split, and encode every split with it.

    Training leaves out pairs with an empty side.
    """
    full = [(source, target) for source, target in _pairs(text[TRAIN]) if source.strip() and target.strip()]
    if not full or not len(text[VALIDATION]):
        raise ConfigurationError(f"{name} has no sentences to {'validate' if full else 'train'} on")
    bpe = Bpe.train(itertools.chain.from_iterable(full), vocabulary)
    trained = ParallelText(*map(list, zip(*full, strict=True)))
    splits = {
        split: SentencePairs(_rows(bpe, lines.sources, []), _rows(bpe, lines.targets, [BOS]))
        for split, lines in {**text, TRAIN: trained}.items()
    }
    return Encoded(bpe, splits, {split: lines.targets for split, lines in text.items() if split != TRAIN})


def _pairs(text: ParallelText) -> zip[tuple[str, str]]:
    return zip(text.sources, text.targets, strict=True)


def _rows(bpe: Bpe, lines: list[str], begin: list[int]) -> Sentences:
    tokens, lengths = [np.empty(0, np.int32)], [0]
    for start in range(0, len(lines), _AT_ONCE):
        rows = [[*begin, *found, EOS] for found in bpe.encode(lines[start : start + _AT_ONCE])]
        lengths.extend(map(len, rows))
        tokens.append(np.fromiter(itertools.chain.from_iterable(rows), np.int32))
    return Sentences(np.concatenate(tokens), np.cumsum(lengths, dtype=np.int64))


def _fill(folder: Path, encoded: Encoded) -> None:
    for split, pairs in encoded.splits.items():
        for side, sentences in (("source", pairs.sources), ("target", pairs.targets)):
            np.save(folder / f"{split}.{side}.npy", sentences.tokens)
            np.save(folder / f"{split}.{side}.offsets.npy", sentences.offsets)
    (folder / "tokenizer.json").write_text(encoded.bpe.content, encoding="utf-8")
    (folder / "references.json").write_text(json.dumps(encoded.references), encoding="utf-8")
    (folder / "digest").write_text(encoded.digest)


def _load(folder: Path) -> Encoded | None:
    """Return what :func:`_fill` wrote, tokens as memory-mapped files; None if it is absent, incomplete or damaged."""
    try:
        references = json.loads((folder / "references.json").read_text(encoding="utf-8"))
        splits = {}
        for split in (TRAIN, *references):
            source, target = (
                Sentences(
                    np.load(folder / f"{split}.{side}.npy", mmap_mode="r"),
                    np.load(folder / f"{split}.{side}.offsets.npy"),
                )
                for side in ("source", "target")
            )
            splits[split] = SentencePairs(source, target)
        encoded = Encoded(Bpe.load(folder / "tokenizer.json"), splits, references)
        whole = encoded.digest == (folder / "digest").read_text()
    except Exception:  # damaged files raise nearly anything, and are made anew
        return None
    return encoded if whole else None
