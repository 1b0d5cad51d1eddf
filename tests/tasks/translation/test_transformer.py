"""The transformer: padding, decoding token by token, and flat, compiled or half-precise training change nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.models import MODELS
from sgp_core.tasks.translation.transformer import TransformerNetwork, sinusoids
from sgp_core.tensors.flat_storage import FlatStorage

VOCABULARY = 40
NORMS = ["post", "pre"]


def build(seed: int = 0, **options: Any) -> TransformerNetwork:
    torch.manual_seed(seed)
    small = {"width": 16, "feedforward": 32, "heads": 4, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0}
    model = MODELS.build("transformer", **{**small, **options}).build(VOCABULARY)
    assert isinstance(model, TransformerNetwork)
    return model


def sentences(*lengths: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(4, VOCABULARY, (length,), generator=generator) for length in lengths]


def padded(rows: list[Tensor]) -> Tensor:
    return pad_sequence(rows, batch_first=True)


@pytest.mark.parametrize("norm", NORMS)
def test_padding_changes_no_logit(norm: str) -> None:
    model = build(norm=norm).eval()
    sources, targets = sentences(7, 2, 5), sentences(3, 6, 1, seed=1)
    together = model(padded(sources), padded(targets))
    assert together.shape == (3, 6, VOCABULARY)
    for row, source, target in zip(together, sources, targets, strict=True):
        alone = model(source[None], target[None])[0]
        torch.testing.assert_close(row[: len(target)], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_token_by_token_is_the_whole(norm: str) -> None:
    """Three translations of each of two sentences, with sentences and translations dropped and swapped on the way."""
    model = build(norm=norm).eval()
    source, targets = padded(sentences(6, 3)), padded(sentences(*[5] * 6, seed=1))
    whole = model(source.repeat_interleave(3, dim=0), targets)
    rows = torch.arange(6).view(2, 3)
    state = model.begin(source)
    kept = torch.tensor([0, 1])
    for position in range(5):
        found = model.step(targets[rows, position], state)
        torch.testing.assert_close(found, whole[rows, position], rtol=1e-4, atol=1e-5)
        order = torch.tensor([[2, 0, 1], [1, 2, 0]])[: len(rows)]
        if position == 2:
            kept = torch.tensor([1])
        elif position == 3:
            kept = torch.tensor([0])
        places = (torch.arange(len(rows))[:, None] * 3 + order)[kept].flatten()
        state.keep(kept, places)
        rows = rows.flatten()[places].view(len(kept), 3)
    assert rows.flatten().tolist() != sorted(rows.flatten().tolist())


def test_no_position_looks_ahead() -> None:
    model = build().eval()
    source, target = padded(sentences(4)), padded(sentences(6, seed=1))
    other = target.clone()
    other[0, 4:] = 9
    before, after = model(source, target), model(source, other)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_positions_are_the_papers() -> None:
    encodings = sinusoids(50, 8)
    for position in (0, 1, 49):
        for index in range(4):
            angle = position / 10000 ** (2 * index / 8)
            expected = [math.sin(angle), math.cos(angle)]
            assert encodings[position, 2 * index : 2 * index + 2].tolist() == pytest.approx(expected, abs=1e-5)
    assert torch.equal(sinusoids(3, 8, first=47), encodings[47:])


@pytest.mark.parametrize(
    ("options", "vocabulary", "millions"),
    [
        ({"size": "base"}, 37_000, 63.1),
        ({"size": "big"}, 37_000, 214.2),
        ({"size": "small"}, 8_000, 7.6),
        ({"size": "tiny"}, 8_000, 1.9),
    ],
)
def test_sizes(options: dict[str, Any], vocabulary: int, millions: float) -> None:
    with torch.device("meta"):
        model = MODELS.build("transformer", **options).build(vocabulary)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_initial_parameters_follow_the_seed_and_good_practice() -> None:
    def state(seed: int) -> dict[str, Tensor]:
        return build(seed, width=64, feedforward=256).state_dict()

    one, same, other = state(1), state(1), state(2)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["embedding.weight"], other["embedding.weight"])
    assert one["embedding.weight"].std().item() == pytest.approx(64**-0.5, rel=0.05)
    bounds = {
        "encoder.0.attention.project.weight": math.sqrt(6 / (64 + 64)) / math.sqrt(2),
        "encoder.0.attention.out.weight": math.sqrt(6 / (64 + 64)),
        "decoder.1.cross.ask.weight": math.sqrt(6 / (64 + 64)),
        "decoder.1.feedforward.widen.weight": math.sqrt(6 / (64 + 256)),
    }
    for name, bound in bounds.items():
        assert one[name].abs().max().item() == pytest.approx(bound, rel=0.01), name
    assert all((one[name] == 0).all() for name in one if name.endswith("bias"))


def test_dropout_only_trains() -> None:
    model = build(dropout=0.3, attention_dropout=0.2, activation_dropout=0.1)
    source, target = padded(sentences(4, 6)), padded(sentences(3, 5, seed=1))
    assert not torch.equal(model(source, target), model(source, target))
    model.eval()
    assert torch.equal(model(source, target), model(source, target))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("how", ["eager", "compiled", "bf16"])
def test_training_in_flat_storage(norm: str, how: str) -> None:
    """Every parameter lives in the storage once and gets a gradient there; the model learns a sentence by heart."""
    model = build(norm=norm)
    storage = FlatStorage(model.parameters())
    assert sum(piece.numel() for piece in storage.flat.tensors) == sum(p.numel() for p in model.parameters())
    if how == "compiled":
        for block in model.blocks:
            block.compile(backend="eager", fullgraph=True, dynamic=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    source, target = padded(sentences(4, 6)), padded(sentences(4, 7, seed=1))
    losses = []
    for _ in range(30):
        with torch.autocast("cpu", torch.bfloat16, enabled=how == "bf16"):
            logits = model(source, target[:, :-1])
            loss = cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=0)
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 3
    assert losses[-1] < 0.6
    assert [parameter.data_ptr() for parameter in storage.parameters] == storage.addresses


def test_the_state_names_each_parameter_once() -> None:
    model = build()
    pointers = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert len(pointers) == len(model.state_dict()) == len(list(model.parameters()))
    assert not list(model.buffers())
    assert not any(isinstance(module, nn.Linear) and module.out_features == VOCABULARY for module in model.modules())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": "smal"}, "model.size cannot be 'smal'; did you mean 'small'"),
        ({"norm": "before"}, "model.norm cannot be 'before'"),
        ({"width": 0}, "model.width must be at least 1, not 0"),
        ({"width": 130}, "model.width=130 must be even and a multiple of model.heads=4"),
        ({"width": 9, "heads": 3}, "model.width=9 must be even"),
        ({"dropout": 1.0}, r"model.dropout must be in \[0, 1\), not 1.0"),
        ({"attention_dropout": -0.1}, "model.attention_dropout"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        MODELS.build("transformer", **options)
