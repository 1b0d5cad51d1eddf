"""Text as streams of tokens: encoded once, kept in the user's cache, and memory-mapped by all processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.base import VALIDATION
from sgp_core.tasks.cache import digest_of, load_or_make
from sgp_core.tasks.content import say_changes
from sgp_core.tasks.language_modelling.byte_bpe import END, ByteBpe
from sgp_core.tasks.language_modelling.corpus import Document
from sgp_core.tasks.text.tokenizer import TOKENIZER

TRAIN = "train"
_AT_ONCE = 256
"""Documents encoded at a time: as lists, tokens take ten times the memory."""


@dataclass(frozen=True)
class TokenStream:
    """All documents of a split, one after the other, each after a token that says so; the last is followed by one."""

    tokens: np.ndarray
    """uint16 or int32 ``[N]``; possibly a memory-mapped file."""
    starts: np.ndarray
    """Where each document begins, int64 ``[documents]``."""
    sources: np.ndarray
    """The source of each document, int64 ``[documents]``."""

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)

    def take(self, places: np.ndarray) -> np.ndarray:
        """Return the tokens at ``places``, of any shape, as int64."""
        return self.tokens[places].astype(np.int64)


@dataclass(frozen=True)
class EncodedText:
    """Both splits as tokens, with the encoding that turns them into text again."""

    bpe: ByteBpe
    splits: Mapping[str, TokenStream]

    @property
    def vocabulary(self) -> int:
        """Number of tokens that a model must know."""
        return self.bpe.size

    @cached_property
    def digest(self) -> str:
        """A hash of all this, by which damage to what is kept, and other text, are noticed."""
        arrays = (array for each in self.splits.values() for array in (each.tokens, each.starts, each.sources))
        return digest_of(arrays, self.bpe.content, list(self.splits))

    @property
    def content(self) -> dict[str, Any]:
        """The numbers of tokens and the hash: see :meth:`sgp_core.tasks.base.Task.content`."""
        train, validation = (len(self.splits[split]) for split in (TRAIN, VALIDATION))
        return {"training tokens": train, "validation tokens": validation, "content": self.digest}


Splits = tuple[Sequence[Document], Sequence[Document]]
"""Documents that train, and that validate."""


def load_or_encode_documents(
    folder: Path, read: Callable[[], Splits], vocabulary: int, name: str, where: str | None = None
) -> EncodedText:
    """Return the text encoded in ``folder``; the first process learns the vocabulary and encodes while the others wait.

    Args:
        folder: in the cache.
        read: returns the documents.
        vocabulary: most tokens.
        name: of the data set.
        where: the path of the text. If it has changed since it was loaded last, a warning says so.

    Raises:
        ConfigurationError: ``read`` raised it, or there is no text.
    """
    made = load_or_make(folder, _load, lambda: encode_documents(*read(), vocabulary, name), _fill, what="encoded text")
    assert made is not None
    if where is not None:
        say_changes(folder.parent, where, made.content, name, vocabulary)
    return made


def encode_documents(
    train: Sequence[Document], validation: Sequence[Document], vocabulary: int, name: str
) -> EncodedText:
    """Learn a vocabulary from the documents that train, and encode all."""
    if not train or not validation:
        raise ConfigurationError(f"{name} has no text to {'validate' if train else 'train'} on")
    bpe = ByteBpe.train((document.text for document in train), vocabulary)
    return EncodedText(bpe, {TRAIN: _stream(bpe, train), VALIDATION: _stream(bpe, validation)})


def _stream(bpe: ByteBpe, documents: Sequence[Document]) -> TokenStream:
    kind = np.uint16 if bpe.size <= 2**16 else np.int32
    parts, lengths = [], []
    for begin in range(0, len(documents), _AT_ONCE):
        for row in bpe.encode([document.text for document in documents[begin : begin + _AT_ONCE]]):
            parts.append(np.array([END, *row], dtype=kind))
            lengths.append(len(parts[-1]))
    tokens = np.concatenate([*parts, np.array([END], dtype=kind)])
    starts = np.cumsum([0, *lengths[:-1]], dtype=np.int64)
    return TokenStream(tokens, starts, np.array([document.source for document in documents], dtype=np.int64))


def _fill(folder: Path, text: EncodedText) -> None:
    for split, stream in text.splits.items():
        for part in ("tokens", "starts", "sources"):
            np.save(folder / f"{split}.{part}.npy", getattr(stream, part))
    (folder / TOKENIZER).write_text(text.bpe.content, encoding="utf-8")
    (folder / "digest.json").write_text(json.dumps(text.digest))


def _load(folder: Path) -> EncodedText | None:
    """Return what :func:`_fill` wrote, tokens as memory-mapped files; None if it is absent, incomplete or damaged."""
    try:
        splits = {
            split: TokenStream(
                np.load(folder / f"{split}.tokens.npy", mmap_mode="r"),
                *(np.load(folder / f"{split}.{part}.npy") for part in ("starts", "sources")),
            )
            for split in (TRAIN, VALIDATION)
        }
        text = EncodedText(ByteBpe.load(folder / TOKENIZER), splits)
        whole = text.digest == json.loads((folder / "digest.json").read_text())
    except Exception:  # damaged files raise nearly anything, and are made anew
        return None
    return text if whole else None
