"""Beam search against an exhaustive search, against greedy search, and against itself in other batches."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.models import MODELS
from sgp_core.tasks.translation.beam import BeamSearch, Hypothesis, translate
from sgp_core.tasks.translation.tokens import BOS, EOS
from sgp_core.tasks.translation.transformer import TransformerNetwork

WORDS = [4, 5, 6]
VOCABULARY = 7


def build(seed: int, vocabulary: int = VOCABULARY) -> TransformerNetwork:
    """Return an untrained model that is sure of what it writes, and ends now and then."""
    torch.manual_seed(seed)
    options = {"width": 16, "feedforward": 32, "heads": 2, "encoder_layers": 1, "decoder_layers": 2, "dropout": 0.5}
    model = MODELS.build("transformer", **options).build(vocabulary)
    assert isinstance(model, TransformerNetwork)
    # Of an untrained one the most probable word is the last once more, as input and output share their embeddings.
    last = model.decoder[-1].get_submodule("after_feedforward.norm")
    assert isinstance(last, nn.LayerNorm)
    nn.init.normal_(last.weight, std=2.0)
    return model


def sources(count: int, longest: int = 6, vocabulary: int = VOCABULARY, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,), generator=generator).tolist()
    return [[*torch.randint(4, vocabulary, (n,), generator=generator).tolist(), EOS] for n in lengths]


@torch.no_grad()
def logarithms(model: TransformerNetwork, source: list[int], tokens: list[int]) -> Tensor:
    """Return the log-probability of each of ``tokens`` and of the end."""
    logits = model.eval()(torch.tensor([source]), torch.tensor([[BOS, *tokens]]))[0]
    return log_softmax(logits, dim=-1)[torch.arange(len(tokens) + 1), torch.tensor([*tokens, EOS])]


@torch.no_grad()
def exhaustive(model: TransformerNetwork, source: list[int], longest: int, alpha: float) -> Hypothesis:
    """Return the best of all translations of at most ``longest`` tokens."""
    scored = []
    for n in range(longest + 1):
        every = [list(words) for words in itertools.product(WORDS, repeat=n)]
        inputs = torch.tensor([[BOS, *words] for words in every])
        logits = model.eval()(torch.tensor([source]).expand(len(every), -1), inputs)
        targets = torch.tensor([[*words, EOS] for words in every])
        sums = log_softmax(logits, dim=-1).gather(2, targets[:, :, None]).sum((1, 2)).tolist()
        scored += [Hypothesis(words, sum_ / ((6 + n) / 6) ** alpha) for words, sum_ in zip(every, sums, strict=True)]
    return max(scored, key=lambda hypothesis: hypothesis.score)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", [4, 5, 7])
def test_a_wide_beam_finds_the_best_of_all(seed: int, alpha: float) -> None:
    model, given = build(seed), sources(4, seed=seed)
    search = BeamSearch(beam=200, length_penalty=alpha, max_length_factor=0.0, max_length_extra=4)
    for source, found in zip(given, search(model, given), strict=True):
        best = exhaustive(model, source, 4, alpha)
        assert found.tokens == best.tokens
        assert found.score == pytest.approx(best.score, rel=1e-4)


def test_the_length_penalty_matters() -> None:
    """Else the test above would show less than it seems to."""
    model, given = build(4), sources(4, seed=4)
    lengths = {alpha: sum(map(len, translate(model, given, beam=200, length_penalty=alpha))) for alpha in (0.0, 2.0)}
    assert lengths[0.0] < lengths[2.0]


@torch.no_grad()
def greedily(model: TransformerNetwork, source: list[int], longest: int) -> list[int]:
    tokens: list[int] = []
    while len(tokens) < longest:
        logits = model.eval()(torch.tensor([source]), torch.tensor([[BOS, *tokens]]))[0, -1]
        logits[[0, 1, 3]] = -torch.inf
        if (word := int(logits.argmax())) == EOS:
            break
        tokens.append(word)
    return tokens


def test_a_beam_of_one_is_greedy() -> None:
    model, given = build(5, 12), sources(9, 8, 12)
    search = BeamSearch(beam=1, max_length_factor=2.0, max_length_extra=3)
    expected = [greedily(model, source, 2 * len(source) + 3) for source in given]
    found = [hypothesis.tokens for hypothesis in search(model, given)]
    assert found == expected
    assert len({len(tokens) for tokens in found}) > 1
    assert translate(model, given, beam=4, length_penalty=0.0) != expected


@pytest.mark.parametrize("beam", [1, 3])
def test_batches_and_order_change_nothing(beam: int) -> None:
    model, given = build(6, 12), sources(12, 8, 12)
    whole = BeamSearch(beam=beam)(model, given)
    for batch in (1, 5):
        for found, expected in zip(BeamSearch(beam=beam, batch=batch)(model, given), whole, strict=True):
            assert found.tokens == expected.tokens
            assert found.score == pytest.approx(expected.score, rel=1e-4)
    assert [h.tokens for h in BeamSearch(beam=beam)(model, given[::-1])] == [h.tokens for h in whole][::-1]
    assert BeamSearch(beam=beam)(model, given) == whole


def test_scores_are_those_of_the_model() -> None:
    model, given = build(5, 12), sources(5, 8, 12)
    for source, found in zip(given, BeamSearch(beam=3)(model, given), strict=True):
        total = logarithms(model, source, found.tokens).sum().item()
        assert found.score == pytest.approx(total / BeamSearch().penalty(len(found.tokens) + 1), rel=1e-4)


def test_no_translation_is_too_long_or_holds_what_it_must_not() -> None:
    model, given = build(6, 12), sources(20, 8, 12)
    with torch.no_grad():
        model.embedding.weight[EOS] = 0.0  # ends are improbable
        model.embedding.weight[:2] *= 3  # and padding and beginnings are not
    search = BeamSearch(beam=2, max_length_factor=0.5, max_length_extra=2)
    lengths = []
    for source, found in zip(given, search(model, given), strict=True):
        assert len(found.tokens) <= len(source) // 2 + 2
        assert not {0, 1, 2, 3} & set(found.tokens)
        lengths.append(len(found.tokens) - len(source) // 2)
    assert max(lengths) == 2


def test_of_nothing_the_translation_is_nothing() -> None:
    model = build(1)
    assert translate(model, []) == []
    assert translate(model, [[], [4, EOS], []])[::2] == [[], []]


def test_the_mode_of_the_model_stays() -> None:
    for training in (True, False):
        model = build(1).train(training)
        first, second = (translate(model, sources(3)) for _ in range(2))
        assert first == second
        assert model.training is training


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"beam": 0}, "beam must be at least 1, not 0"),
        ({"batch": 0}, "batch must be at least 1, not 0"),
        ({"length_penalty": -0.5}, "length_penalty must be zero or more, not -0.5"),
        ({"max_length_extra": -1}, "max_length_extra must be at least 0, not -1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        BeamSearch(**options)
