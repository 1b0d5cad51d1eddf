"""Text from a language model: the tokens that it finds probable, the same ones each time, however they are computed."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.language_modelling.byte_bpe import ByteBpe
from sgp_core.tasks.language_modelling.generator import Continuation, Generator, load_generator
from sgp_core.tasks.language_modelling.sampling import Sampling
from tests.support.language_models import GPT2, LLAMA, make_language_model

CONTEXT = 16
SHAPES = [LLAMA, GPT2, {**LLAMA, "tied": False, "bias": True}, {**GPT2, "norm": "rms"}]


class WithoutPast(torch.nn.Module):
    """A model, of which only ``forward`` is known."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        assert tokens.shape[1] <= CONTEXT
        found: Tensor = self.model(tokens)
        return found


@pytest.mark.parametrize("options", SHAPES)
@torch.no_grad()
def test_what_is_kept_of_earlier_tokens_changes_no_logit(options: dict[str, Any], tmp_path: Path) -> None:
    model = make_language_model(tmp_path, options)
    tokens = torch.randint(270, (2, CONTEXT))
    whole = model(tokens)
    logits, past = model.extend(tokens[:, :5], None)
    torch.testing.assert_close(logits, whole[:, 4])
    for place in range(5, CONTEXT):
        logits, past = model.extend(tokens[:, place : place + 1], past)
        torch.testing.assert_close(logits, whole[:, place], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", SHAPES[:2])
@pytest.mark.parametrize("begin", [1, 7, 40])
def test_the_same_tokens_with_and_without_a_past(options: dict[str, Any], begin: int, tmp_path: Path) -> None:
    """Three times as many as the model sees at once, so that its past is cut on the way."""
    model = make_language_model(tmp_path, options)
    prompt = [number % 7 for number in range(begin)]
    one, other = (list(islice(Sampling()(each, prompt, CONTEXT, 270), 50)) for each in (model, WithoutPast(model)))
    assert one == other
    assert len(set(one)) > 10
    assert one != list(islice(Sampling(seed=1)(model, prompt, CONTEXT, 270), 50))


def test_no_temperature_takes_the_most_probable(tmp_path: Path) -> None:
    model = make_language_model(tmp_path)
    found = list(islice(Sampling(temperature=0)(model, [3], CONTEXT, 270), 10))
    with torch.no_grad():
        logits = model(torch.tensor([[3, *found[:-1]]]))[0, :, :270]
    assert found == logits.argmax(-1).tolist()
    assert found == list(islice(Sampling(top_k=1, seed=9)(model, [3], CONTEXT, 270), 10))
    assert found == list(islice(Sampling(top_p=1e-9, seed=9)(model, [3], CONTEXT, 270), 10))


LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=12).map(torch.tensor)


@given(LOGITS, st.floats(0.1, 3), st.integers(1, 14), st.floats(0.01, 1))
def test_probabilities_are_those_of_the_papers(logits: Tensor, temperature: float, k: int, p: float) -> None:
    plain = (logits / temperature).softmax(0)
    found = Sampling(temperature=temperature).probabilities(logits)
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-6)
    best = Sampling(temperature=temperature, top_k=k).probabilities(logits)
    kept = best > 0
    assert kept.sum() <= k
    if kept.any() and not kept.all():
        assert logits[kept].min() >= logits[~kept & (plain > 0)].max() if (~kept & (plain > 0)).any() else True
    torch.testing.assert_close(best[kept], plain[kept] / plain[kept].sum(), rtol=1e-4, atol=1e-6)
    nucleus = Sampling(temperature=temperature, top_p=p).probabilities(logits)
    chosen = nucleus > 0
    assert float(plain[chosen].sum()) >= p - 1e-4
    assert float(plain[chosen].sum() - plain[chosen].min()) <= p + 1e-4  # without the least of them, it would not do
    assert float(nucleus.sum()) == pytest.approx(1, abs=1e-5)


def test_frequencies_follow_probabilities() -> None:
    logits = torch.tensor([2.0, 0.0, 1.0])
    model = torch.nn.Module()
    model.register_parameter("weight", torch.nn.Parameter(logits))
    model.forward = lambda tokens: logits.expand(1, tokens.shape[1], 3)
    found = torch.tensor(list(islice(Sampling(temperature=0.5)(model, [0], 4, 3), 4000)))
    # the largest standard deviation of a share is 0.5 / sqrt(4000) = 0.008
    torch.testing.assert_close(found.bincount() / 4000, (logits / 0.5).softmax(0), rtol=0, atol=0.03)


def test_tokens_that_the_tokenizer_does_not_have_are_never_chosen(tmp_path: Path) -> None:
    make_language_model(tmp_path, spare=500)
    generator = load_generator(tmp_path / "model.safetensors")
    found = islice(Sampling(temperature=3.0)(generator.model, [0], CONTEXT, generator.bpe.size), 300)
    assert max(found) < generator.bpe.size


@pytest.fixture(scope="module")
def bpe() -> ByteBpe:
    return ByteBpe.train(["all in all"] * 3, 262)


@given(st.text(max_size=30), st.integers(0, 3))
def test_parts_are_whole_characters_and_make_up_the_text(text: str, cut: int) -> None:
    bpe = ByteBpe.train(["ä"], 257)  # a token is a byte
    [tokens] = bpe.encode([text])
    tokens = tokens[: max(0, len(tokens) - cut)]
    continuation = Continuation(iter(tokens), bpe)
    parts = list(continuation)
    assert "".join(parts) == bpe.decode([tokens])[0]
    assert (continuation.tokens, continuation.ended) == (len(tokens), False)
    if not cut:
        assert all("�" not in part or "�" in text for part in parts)


def test_a_document_ends_where_the_next_would_begin(bpe: ByteBpe) -> None:
    assert bpe.begin == (0, "<|endoftext|>")
    [tokens] = bpe.encode(["all"])
    continuation = Continuation(iter([*tokens, 0, *tokens]), bpe)
    assert "".join(continuation) == "all"
    assert (continuation.tokens, continuation.ended) == (len(tokens) + 1, True)


def test_a_prompt_may_be_empty_where_documents_have_a_beginning(bpe: ByteBpe, tmp_path: Path) -> None:
    model = make_language_model(tmp_path)
    assert list(Generator(model, bpe, CONTEXT)("", 3, Sampling()))
    plain = ByteBpe(bpe.content.replace("<|endoftext|>", "<other>"))
    assert list(Generator(model, plain, CONTEXT)("a", 3, Sampling()))
    with pytest.raises(ConfigurationError, match="the prompt must not be empty: this tokenizer has no token that"):
        Generator(model, plain, CONTEXT)("", 3, Sampling())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature must be zero or more"),
        ({"temperature": float("nan")}, "temperature must be zero or more"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1"),
        ({"top_p": 1.1}, "top_p must be above 0 and at most 1"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_impossible_wishes_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Sampling(**options)
