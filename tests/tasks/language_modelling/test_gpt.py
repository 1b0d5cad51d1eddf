"""The decoder-only transformer: what it may look at, how large it is, and where it starts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.language_modelling.network import rotate, rotations
from sgp_core.tasks.model_size import size_of
from sgp_core.tasks.models import MODELS
from sgp_core.training.compiling import blocks

VOCABULARY, CONTEXT = 600, 24
LLAMA: dict[str, Any] = {"size": "tiny"}
GPT2: dict[str, Any] = {
    **{"size": "tiny", "positions": "learned", "norm": "layer", "activation": "gelu", "hidden": 512, "bias": True}
}
SHAPES = [LLAMA, GPT2, {**LLAMA, "tied": False}, {**LLAMA, "norm": "layer", "activation": "gelu"}]


def build(options: dict[str, Any], vocabulary: int = VOCABULARY, context: int = CONTEXT) -> torch.nn.Module:
    torch.manual_seed(3)
    model: Any = MODELS.build("gpt", **options)
    network: torch.nn.Module = model.build(vocabulary, context)
    return network


@pytest.mark.parametrize("options", SHAPES)
@torch.no_grad()
def test_a_later_token_changes_no_earlier_logit(options: dict[str, Any]) -> None:
    network = build(options)
    tokens = torch.randint(VOCABULARY, (2, CONTEXT))
    logits = network(tokens)
    assert logits.shape == (2, CONTEXT, VOCABULARY)
    for place in (1, 11, CONTEXT - 1):
        other = tokens.clone()
        other[:, place] = (other[:, place] + 1) % VOCABULARY
        changed = network(other)
        torch.testing.assert_close(changed[:, :place], logits[:, :place])
        assert (changed[:, place:] - logits[:, place:]).abs().amax((0, 2)).min() > 1e-4  # and each later one sees it


@pytest.mark.parametrize("options", SHAPES)
@torch.no_grad()
def test_the_order_of_tokens_matters(options: dict[str, Any]) -> None:
    network = build(options)
    one, other = torch.tensor([[1, 2, 3]]), torch.tensor([[2, 1, 3]])
    assert (network(one)[:, -1] - network(other)[:, -1]).abs().max() > 1e-5


@pytest.mark.parametrize("options", SHAPES)
@torch.no_grad()
def test_it_starts_without_an_opinion(options: dict[str, Any]) -> None:
    """Logits are near 0, so the loss is near that of a uniform guess, ``log V``."""
    network = build(options)
    tokens = torch.randint(VOCABULARY, (16, CONTEXT + 1))
    logits = network(tokens[:, :-1])
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    # logits of normalised features have a variance of 0.02² W, which adds half of itself
    assert float(loss) == pytest.approx(math.log(VOCABULARY) + 0.02**2 * 128 / 2, abs=0.05)


@pytest.mark.parametrize(
    ("size", "vocabulary", "context", "parameters"),
    [
        ("124m", 50_257, 1024, 124_439_808),  # GPT-2
        ("tiny", 2048, 256, 1_066_112),
        ("small", 8192, 256, 10_059_840),
        ("30m", 8192, 256, 29_499_904),
        ("150m", 32_000, 1024, 144_643_968),
    ],
)
def test_sizes_are_those_that_are_told(size: str, vocabulary: int, context: int, parameters: int) -> None:
    with torch.device("meta"):
        assert size_of(build({"size": size}, vocabulary, context)).parameters == parameters


def test_parameters_are_those_of_the_formula() -> None:
    """Llama's: per layer four matrices W W of attention, three W F of SwiGLU and two norms; a norm, one embedding."""
    w, f, layers = 32, 48, 3
    options = {"width": w, "hidden": f, "layers": layers, "heads": 4}
    expected = layers * (4 * w * w + 3 * w * f + 2 * w) + w + VOCABULARY * w
    assert size_of(build(options)).parameters == expected
    assert size_of(build({**options, "tied": False})).parameters == expected + VOCABULARY * w


def test_rotary_attention_depends_on_distance_alone() -> None:
    query, key = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64)
    angles = rotations(30, 16).double()

    def product(m: int, n: int) -> float:
        return float((rotate(query, angles[:, m : m + 1]) * rotate(key, angles[:, n : n + 1])).sum())

    for distance in (0, 3, 10):
        products = [product(n + distance, n) for n in (0, 7, 19)]
        assert products == pytest.approx([products[0]] * 3, abs=1e-5)
    assert abs(product(3, 0) - product(0, 0)) > 1e-3
    assert torch.equal(rotate(query, angles[:, :1]), query)


def test_each_layer_is_a_block_to_compile() -> None:
    assert len(list(blocks(build(LLAMA)))) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "smal"}, "model.size cannot be 'smal'; did you mean 'small'"),
        ({"positions": "rotory"}, "model.positions cannot be 'rotory'; did you mean 'rotary'"),
        ({"width": 100, "heads": 3}, "model.width=100 must be a multiple of model.heads=3"),
        ({"width": 9, "heads": 3}, "model.width=9: with rotary positions, each of model.heads=3 must have an even"),
        ({"dropout": 1.0}, "model.dropout"),
        ({"layers": 0}, "model.layers must be at least 1"),
    ],
)
def test_impossible_shapes_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MODELS.build("gpt", **options)
