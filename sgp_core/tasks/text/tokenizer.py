"""A tokenizer of the library ``tokenizers`` in one file: from text to tokens and back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from tokenizers import Tokenizer

from sgp_core.atomic_files import read_file, write_text
from sgp_core.errors import ConfigurationError

T = TypeVar("T", bound="TextTokenizer")

TOKENIZER = "tokenizer.json"
"""File of the tokenizer beside an exported model."""


class TextTokenizer:
    """The base of tokenizers; a subclass says how one is learnt.

    Args:
        content: a tokenizer in the JSON format of ``tokenizers``.
    """

    def __init__(self, content: str) -> None:
        self.content = content
        self._tokenizer = Tokenizer.from_str(content)
        self._tokenizer.encode_special_tokens = True  # "<s>" in a text is text

    @classmethod
    def load(cls: type[T], path: Path) -> T:
        """Read what :meth:`save` wrote.

        Raises:
            ConfigurationError: the file is missing or not a tokenizer.
        """
        try:
            return cls(read_file(path).decode())
        except Exception as error:  # the library raises the bare class
            raise ConfigurationError(f"{path} cannot be read as a tokenizer: {error}") from error

    def save(self, path: Path) -> None:
        """Write the JSON file, whose SHA-256 is :attr:`digest`."""
        write_text(path, self.content)

    @property
    def size(self) -> int:
        """Number of tokens, special ones included."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def digest(self) -> str:
        """SHA-256 of the file, as 64 hexadecimal digits."""
        return hashlib.sha256(self.content.encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text, without beginning and end."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each row of tokens; special tokens are left out."""
        return [str(text) for text in self._tokenizer.decode_batch([list(row) for row in rows])]
