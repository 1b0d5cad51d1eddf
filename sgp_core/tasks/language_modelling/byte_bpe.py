"""Byte-level byte-pair encoding (Radford et al. 2019, section 2.2), with the library ``tokenizers``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.text.tokenizer import TextTokenizer

END = 0
"""The token that stands before each document and after the last, where the encoding is learnt here."""
_END_NAME = "<|endoftext|>"
_LEAST_COUNT = 2
"""Pairs of symbols that occur less often than this are not merged."""
_BEGIN_NAMES = (_END_NAME, "<|begin_of_text|>")
"""The tokens that stand before each document in shards: of GPT-2, and of Llama 3."""
LEAST_VOCABULARY = 257
"""Every byte, and the end of a document."""


class ByteBpe(TextTokenizer):
    """Any text becomes tokens and comes back to the byte: no token is unknown, and nothing is normalised."""

    @classmethod
    def train(cls, documents: Iterable[str], vocabulary: int) -> ByteBpe:
        """Return the encoding of at most ``vocabulary`` tokens learnt from ``documents``; equal ones give an equal one.

        Args:
            vocabulary: at least :data:`LEAST_VOCABULARY`.
        """
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=_LEAST_COUNT,
            special_tokens=[_END_NAME],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(documents, trainer)
        return cls(tokenizer.to_str())

    @classmethod
    def load_published(cls, path: Path) -> ByteBpe:
        """Read a tokenizer that others have learnt, such as that of GPT-2 or Llama 3.

        Raises:
            ConfigurationError: the file is missing, not a tokenizer, or its tokens are not made of bytes.
        """
        bpe = cls.load(path)
        if "ByteLevel" not in json.dumps(json.loads(bpe.content).get("decoder")):
            raise ConfigurationError(f"{path} must be a byte-level tokenizer, as those of GPT-2 and Llama 3 are")
        return bpe

    @property
    def begin(self) -> tuple[int, str] | None:
        """The token that stands before each document, and its name; None if a published tokenizer has none."""
        for name in _BEGIN_NAMES:
            if (token := self._tokenizer.token_to_id(name)) is not None:
                return int(token), name
        return None

    def token_bytes(self) -> np.ndarray:
        """Return how many bytes of text each token stands for, int64 ``[size]``; special ones stand for none."""
        names = self._tokenizer.get_vocab()
        sizes = np.zeros(max(names.values()) + 1, dtype=np.int64)
        for name, token in names.items():
            sizes[token] = len(name)  # each byte is one character of the name
        sizes[list(self._tokenizer.get_added_tokens_decoder())] = 0
        return sizes
