"""Ways to train larger models: they change memory and speed, and not what is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.models import MODELS
from sgp_core.training.compiling import compile_blocks
from sgp_core.training.config import Precision
from sgp_core.training.loop import train
from sgp_core.training.recomputing import recompute_blocks
from sgp_core.training.step import autocast
from tests.training import tiny

MODEL: dict[str, Any] = {"size": "tiny", "width": 32, "heads": 2, "hidden": 64, "layers": 3}
GPT2 = {"positions": "learned", "norm": "layer", "activation": "gelu", "bias": True}
TOKENS = torch.arange(6 * 32).reshape(6, 32) % 97


def build(**options: Any) -> Any:
    torch.manual_seed(3)
    chosen: Any = MODELS.build("gpt", **{**MODEL, **options})
    return chosen.build(100, 32)


def step(model: nn.Module, precision: Precision = Precision.fp32) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the loss and the gradients of a batch, with the same dropout each time."""
    torch.manual_seed(7)
    with autocast(tiny.CPU, precision):
        logits = model(TOKENS[:, :-1])
    loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), TOKENS[:, 1:].flatten())
    loss.backward()
    return loss.detach(), [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def kept(model: nn.Module) -> int:
    """Return how many numbers autograd keeps for the backward of a forward."""
    held: dict[int, torch.Tensor] = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: held.setdefault(id(tensor), tensor), lambda it: it):
        model(TOKENS)
    own = {parameter.data_ptr() for parameter in model.parameters()}
    return sum(tensor.numel() for tensor in held.values() if tensor.data_ptr() not in own)


class CountingProducts(TorchDispatchMode):
    """Counts products of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        self.count += function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return function(*arguments, **(named or {}))


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("options", [{}, GPT2], ids=["llama", "gpt2"])
def test_recomputing_changes_no_bit(options: dict[str, Any], precision: Precision) -> None:
    plain, recomputing = build(dropout=0.2, **options), build(dropout=0.2, **options)
    names = list(recomputing.state_dict())
    recompute_blocks(recomputing)
    assert list(recomputing.state_dict()) == names
    (loss, gradients), (other, others) = step(plain, precision), step(recomputing, precision)
    assert torch.equal(loss, other)
    assert all(torch.equal(one, two) for one, two in zip(gradients, others, strict=True))
    assert kept(recomputing) < 0.5 * kept(plain)


def test_evaluation_computes_nothing_twice() -> None:
    model = build()
    recompute_blocks(model)
    counts = []
    for training in (True, False):
        model.train(training)
        with CountingProducts() as products:
            model(TOKENS).sum().backward()
        counts.append(products.count)
    assert counts[0] > counts[1]
    with torch.no_grad(), CountingProducts() as products:
        model.train()(TOKENS)
    assert products.count < counts[1] / 2


def test_a_run_that_recomputes_ends_with_the_same_bits(tmp_path: Path) -> None:
    text = {"name": "text", "vocabulary": 300, "context": 16, "cache": str(tmp_path / "cache")}
    choices = {
        "dataset": text,
        "model": {"name": "gpt", **MODEL, "dropout": 0.1},
        "optimizer": {"name": "adamw", "lr": 0.003},
    }
    models = []
    for name, changed in (("plain", {}), ("recomputing", {"activation_checkpointing": True})):
        experiment = tiny.experiment(1, choices=choices, batch_size=4, epochs=1, max_steps=4, **changed)
        train(experiment, directory=tmp_path / name, **tiny.settings())
        models.append((tmp_path / name / "model.safetensors").read_bytes())
    assert models[0] == models[1]


def test_what_cannot_recompute_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^training.activation_checkpointing=true: this model has no blocks"):
        recompute_blocks(MODELS.build("mlp").build((1, 8, 8), 10))
    with pytest.raises(ConfigurationError, match=r"have batch normalisation, whose statistics would count each batch"):
        recompute_blocks(MODELS.build("resnet18_cifar", width=4).build((3, 8, 8), 10))


def test_earlier_runs_keep_their_identity() -> None:
    assert "activation_checkpointing" not in tiny.experiment().identity()["training"]
    assert tiny.experiment(activation_checkpointing=True).identity()["training"]["activation_checkpointing"] is True


@pytest.mark.parametrize("recomputes", [False, True])
def test_compiled_layers_compute_what_they_did(recomputes: bool) -> None:
    """Traced forward and backward; the step from there to machine code takes a minute."""
    loss, gradients = step(build(layers=2))
    model = build(layers=2)
    if recomputes:
        recompute_blocks(model)
    compile_blocks(model, backend="aot_eager")
    other, others = step(model)
    torch.testing.assert_close(other, loss)
    for one, two in zip(gradients, others, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-6)
    with torch.no_grad():  # another shape, and no gradients
        torch.testing.assert_close(model(TOKENS[:2, :9]), build(layers=2)(TOKENS[:2, :9]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, GPT2], ids=["llama", "gpt2"])
def test_bf16_comes_near_float32(options: dict[str, Any]) -> None:
    (loss, gradients), (other, others) = step(build(**options)), step(build(**options), Precision.bf16)
    assert other == pytest.approx(float(loss), rel=2e-3)
    assert other != loss
    for one, two in zip(gradients, others, strict=True):
        assert two.dtype == torch.float32
        assert float(torch.cosine_similarity(one.flatten(), two.flatten(), dim=0)) > 0.99
