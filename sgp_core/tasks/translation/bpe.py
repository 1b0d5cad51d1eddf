"""Byte-pair encoding (Sennrich et al. 2016) of both languages by one vocabulary, with the library ``tokenizers``."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from sgp_core.tasks.text.tokenizer import TextTokenizer
from sgp_core.tasks.translation.tokens import NAMES, UNK

_LEAST_COUNT = 2
"""Pairs of symbols that occur less often than this are not merged."""


class Bpe(TextTokenizer):
    """From text to tokens and back.

    Blanks become a mark before the next word and punctuation is split off, so decoding returns plain, detokenised text
    with its case and accents. Only the length of runs of blanks is lost.
    """

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
