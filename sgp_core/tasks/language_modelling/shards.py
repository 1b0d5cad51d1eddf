"""Binary shards of tokens, as FineWeb is shared for the training of GPT-2: memory-mapped, never copied."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.base import VALIDATION
from sgp_core.tasks.language_modelling.byte_bpe import ByteBpe
from sgp_core.tasks.language_modelling.streams import TRAIN

_HEADER_BYTES = 1024
"""256 numbers of 32 bits: the format, its version, the number of tokens, and zeros. The tokens follow."""
_FORMATS: dict[tuple[int, int], np.dtype[Any]] = {(20240520, 1): np.dtype("<u2"), (20240801, 7): np.dtype("<u4")}
"""Format and version of the headers that llm.c writes, and the type of a token: for GPT-2 and for Llama 3."""
_MAPPED_FOR_A_READ = 2**16
"""Bytes that the system maps around a place that is read."""
_MOST_MAPPED = 2**25
"""Bytes that stay mapped: beyond that, they are given back, and what is read again comes from the system's cache."""
_SAMPLE = 1024


class Shard:
    """The tokens of one file.

    Raises:
        ConfigurationError: the file cannot be read, or is no shard of tokens or damaged.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                header: np.ndarray = np.frombuffer(file.read(_HEADER_BYTES), dtype="<i4", count=3)
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from error
        except ValueError:  # it is empty, or shorter than a header
            header = np.zeros(3, dtype="<i4")
        kind, count = _FORMATS.get((int(header[0]), int(header[1]))), int(header[2])
        if kind is None:
            known = " or ".join(f"{number}, {version}" for number, version in _FORMATS)
            raise ConfigurationError(f"{path} is no shard of tokens: its first two numbers must be {known}")
        if count < 1 or len(self._map) != _HEADER_BYTES + count * kind.itemsize:
            raise ConfigurationError(
                f"{path} is damaged: its header says {count} tokens, and {len(self._map)} bytes are not so many"
            )
        self._map.madvise(mmap.MADV_RANDOM)  # windows are read in random order: reading ahead would be in vain
        self.tokens = np.frombuffer(self._map, dtype=kind, count=count, offset=_HEADER_BYTES)
        self._mapped = 0

    def take(self, places: np.ndarray, runs: int) -> np.ndarray:
        """Return the tokens at ``places`` ``[K]``, which lie in ``runs`` runs, as int64."""
        found: np.ndarray = self.tokens[places].astype(np.int64)
        self._mapped += runs * _MAPPED_FOR_A_READ + found.size * self.tokens.itemsize
        if self._mapped > _MOST_MAPPED:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._mapped = 0
        return found


class ShardedTokens:
    """Shards, one after the other, as one stream. What begins in a shard has it as its source.

    Args:
        files: in order.
        vocabulary: greater than every token.

    Raises:
        ConfigurationError: a file is no shard or damaged.
    """

    def __init__(self, files: Sequence[Path], vocabulary: int) -> None:
        self._files = files
        self._vocabulary = vocabulary
        self._shards = [Shard(file) for file in files]
        ends = np.cumsum([len(shard.tokens) for shard in self._shards], dtype=np.int64)
        self._length = int(ends[-1])
        self.starts = np.concatenate([[0], ends[:-1]])
        self.sources = np.arange(len(files))

    def __len__(self) -> int:
        """Return the number of tokens."""
        return self._length

    def take(self, places: np.ndarray) -> np.ndarray:
        """Return the tokens at ``places`` ``[B, T]``, which lie side by side in each row, as int64.

        Raises:
            ConfigurationError: a token is none of the vocabulary.
        """
        found = np.empty(places.shape, dtype=np.int64)
        of = np.searchsorted(self.starts, places, side="right") - 1
        for number in np.unique(of):
            here, shard = of == number, self._shards[number]
            found[here] = shard.take(places[here] - self.starts[number], len(places))
        if found.size and (most := int(found.max())) >= self._vocabulary:
            number = int(of.flat[int(found.argmax())])
            raise ConfigurationError(
                f"{self._files[number]} has the token {most}, and dataset.vocabulary is {self._vocabulary}"
            )
        return found

    def sample(self) -> bytes:
        """Return the beginnings and ends of all shards, by which other ones are told from these."""
        parts = (part for shard in self._shards for part in (shard.tokens[:_SAMPLE], shard.tokens[-_SAMPLE:]))
        return b"".join(part.tobytes() for part in parts)


@dataclass(frozen=True)
class ShardedText:
    """Both splits in shards, with the encoding that turns them into text again."""

    bpe: ByteBpe
    splits: Mapping[str, ShardedTokens]
    vocabulary: int
    """Number of tokens that a model must know: at least those of the encoding."""

    @property
    def content(self) -> dict[str, Any]:
        """The numbers of tokens and a hash of a sample: see :meth:`sgp_core.tasks.base.Task.content`."""
        train, validation = (self.splits[split] for split in (TRAIN, VALIDATION))
        digest = hashlib.sha256(self.bpe.content.encode() + train.sample() + validation.sample()).hexdigest()
        return {"training tokens": len(train), "validation tokens": len(validation), "content": digest}
