"""BLEU (Papineni et al. 2002), computed by sacrebleu so that scores are comparable (Post 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sacrebleu.metrics import BLEU

_ORDERS = 4
"""n-grams are counted up to this n."""


@dataclass(frozen=True)
class Score:
    """A corpus score and how it was computed."""

    bleu: float
    """0 to 100."""
    signature: str
    """Sacrebleu's: references, case, tokenisation, smoothing and version. Equal signatures can be compared."""


@dataclass(frozen=True)
class Statistics:
    """The counts from which corpus BLEU is computed. They add up over parts of a corpus."""

    hypothesis_words: int = 0
    reference_words: int = 0
    matches: tuple[int, ...] = (0,) * _ORDERS
    """n-grams of the hypotheses that are in the references, n = 1 to 4."""
    ngrams: tuple[int, ...] = (0,) * _ORDERS
    """n-grams of the hypotheses."""

    def to_list(self) -> list[int]:
        """Return ten numbers, to be summed over workers."""
        return [self.hypothesis_words, self.reference_words, *self.matches, *self.ngrams]

    @classmethod
    def from_list(cls, numbers: Sequence[float]) -> Statistics:
        """Return the statistics that :meth:`to_list` turned into numbers."""
        words, reference, *counts = (round(number) for number in numbers)
        return cls(words, reference, tuple(counts[:_ORDERS]), tuple(counts[_ORDERS:]))

    def score(self) -> Score:
        """Return corpus BLEU, smoothed as sacrebleu does by default; 0 for an empty corpus."""
        from sacrebleu.metrics import BLEU

        bleu = BLEU.compute_bleu(
            correct=list(self.matches),
            total=list(self.ngrams),
            sys_len=self.hypothesis_words,
            ref_len=self.reference_words,
            smooth_method="exp",
        ).score
        return Score(float(bleu), _signature())


def statistics(hypotheses: Sequence[str], references: Sequence[str]) -> Statistics:
    """Return the counts of n-grams and words.

    Args:
        hypotheses: detokenised text, a sentence each.
        references: the correct translation of each.

    Raises:
        ValueError: the numbers of hypotheses and references differ.
    """
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses, but {len(references)} references")
    if not hypotheses:
        return Statistics()
    found = _metric().corpus_score(list(hypotheses), [list(references)])
    return Statistics(found.sys_len, found.ref_len, tuple(found.counts), tuple(found.totals))


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Return corpus BLEU with sacrebleu's signature; arguments and errors as of :func:`statistics`."""
    return statistics(hypotheses, references).score()


def _metric() -> BLEU:
    from sacrebleu.metrics import BLEU

    return BLEU(max_ngram_order=_ORDERS)


def _signature() -> str:
    metric = _metric()
    metric.corpus_score([""], [[""]])  # the signature counts references, and is not there before a corpus was seen
    return str(metric.get_signature())
