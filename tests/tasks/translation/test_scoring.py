"""BLEU is sacrebleu's, whole or summed over parts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu import corpus_bleu

from sgp_core.tasks.translation.scoring import Statistics, bleu, statistics

HYPOTHESES = ["the cat sat on the mat today .", "there is a cat on the mat", "", "Two dogs, running!"]
REFERENCES = ["the cat sat on a mat today .", "there is a cat on the mat", "a bird", "Two dogs run."]
TEXT = st.lists(st.sampled_from(["a", "dog", "runs", "Fast,", "."]), max_size=7).map(" ".join)


def test_the_score_is_that_of_sacrebleu_and_says_how() -> None:
    score = bleu(HYPOTHESES, REFERENCES)
    assert score.bleu == pytest.approx(corpus_bleu(HYPOTHESES, [REFERENCES]).score, rel=1e-12)
    assert score.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


@pytest.mark.parametrize(("hypotheses", "references", "expected"), [(REFERENCES, REFERENCES, 100.0), ([], [], 0.0)])
def test_the_ends_of_the_scale(hypotheses: list[str], references: list[str], expected: float) -> None:
    assert bleu(hypotheses, references).bleu == pytest.approx(expected)
    assert "tok:13a" in bleu(hypotheses, references).signature


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_the_sum_over_workers_is_the_corpus(pairs: list[tuple[str, str]], workers: int) -> None:
    shares = [pairs[rank::workers] for rank in range(workers)]
    counts = [statistics([h for h, _ in share], [r for _, r in share]).to_list() for share in shares]
    summed = Statistics.from_list([float(sum(column)) for column in zip(*counts, strict=True)])
    hypotheses, references = [h for h, _ in pairs], [r for _, r in pairs]
    assert summed == statistics(hypotheses, references)
    assert summed.score().bleu == pytest.approx(corpus_bleu(hypotheses, [references]).score, rel=1e-12)


def test_sentences_must_be_paired() -> None:
    with pytest.raises(ValueError, match="1 hypotheses, but 2 references"):
        bleu(["a"], ["a", "b"])
