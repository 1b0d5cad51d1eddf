"""Byte-pair encoding (Sennrich et al. 2016) of both languages by one vocabulary, with the library ``tokenizers``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from sgp_core.atomic_files import read_file, write_text
from sgp_core.errors import ConfigurationError
from sgp_core.tasks.translation.tokens import NAMES, UNK

_LEAST_COUNT = 2
"""Pairs of symbols that occur less often than this are not merged."""


class Bpe:
    """From text to tokens and back.

    Blanks become a mark before the next word and punctuation is split off, so decoding returns plain, detokenised text
    with its case and accents. Only the length of runs of blanks is lost.

    Args:
        content: a tokenizer in the JSON format of ``tokenizers``.
    """

    def __init__(self, content: str) -> None:
        self.content = content
        self._tokenizer = Tokenizer.from_str(content)
        self._tokenizer.encode_special_tokens = True  # "<s>" in a text is text

    @classmethod
    def train(cls, lines: Iterable[str], vocabulary: int) -> Bpe:
        """Return the encoding of at most ``vocabulary`` tokens learnt from ``lines``; equal lines give an equal one."""
        tokenizer = Tokenizer(models.BPE(unk_token=NAMES[UNK]))
        blanks = normalizers.Replace(Regex(r"\s+"), " ")
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), blanks, normalizers.Strip()])
        mark = pre_tokenizers.Metaspace(prepend_scheme="always")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([mark, pre_tokenizers.Punctuation("isolated")])
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary, min_frequency=_LEAST_COUNT, special_tokens=list(NAMES), show_progress=False
        )
        tokenizer.train_from_iterator(lines, trainer)
        return cls(tokenizer.to_str())

    @classmethod
    def load(cls, path: Path) -> Bpe:
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

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each line, without beginning and end."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(lines))]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each row of tokens; special tokens are left out."""
        return [str(text) for text in self._tokenizer.decode_batch([list(row) for row in rows])]
