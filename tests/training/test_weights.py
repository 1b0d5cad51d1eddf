"""Starting from weights: the model takes them, or a sentence says what does not fit and what to do."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.models import MODELS
from sgp_core.training.weights import load_weights


def network(classes: int = 3, width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(5, width), nn.BatchNorm1d(width), nn.Linear(width, classes))


def load(model: nn.Module, path: Path, **options: Any) -> None:
    load_weights(model, MODELS.build("mlp", weights=str(path), **options))


@pytest.mark.parametrize("form", ["model.safetensors", "model.pth", "checkpoint.pt", "ddp.pt"])
def test_parameters_and_buffers_are_those_of_the_file(form: str, tmp_path: Path) -> None:
    source, model = network(), network()
    path, state = tmp_path / form, source.state_dict()
    if form.endswith(".safetensors"):
        save_file(state, path)
    else:
        named = {f"module.{name}": tensor for name, tensor in state.items()} if form == "ddp.pt" else state
        torch.save({"model": named, "epoch": 3} if form == "checkpoint.pt" else named, path)
    load(model, path)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)


def test_another_head_starts_anew_where_that_is_said(tmp_path: Path) -> None:
    path, source, model = tmp_path / "model.safetensors", network(classes=10), network(classes=3)
    save_file(source.state_dict(), path)
    with pytest.raises(
        ConfigurationError,
        match=r"2.bias has shape \[10\] there and \[3\] here; a layer for another number of classes starts anew"
        r" with model.weights_except=\[2\]$",
    ):
        load(model, path)
    before = model.state_dict()["2.weight"].clone()
    load(model, path, weights_except=["2"])
    assert torch.equal(model.state_dict()["0.weight"], source.state_dict()["0.weight"])
    assert torch.equal(model.state_dict()["2.weight"], before)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(network().state_dict(), path)
    with pytest.raises(ConfigurationError, match=r"it lacks 3.weight, 3.bias, and this model has no 2.bias, 2.weight;"):
        load(nn.Sequential(*network()[:2], nn.ReLU(), nn.Linear(4, 3)), path)  # type: ignore[index,misc]
    with pytest.raises(ConfigurationError, match="7 parameters differ: choose the model with the options"):
        load(network(width=6), path)
    with pytest.raises(ConfigurationError, match=r"model.weights_except: no parameter begins with fc; known: 0, 1, 2"):
        load(network(), path, weights_except=["fc"])
    with pytest.raises(ConfigurationError, match="the file is not the one of checksum 0000000000"):
        load(network(), path, weights_sha256="0" * 64)
    load(network(), path, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"junk", "cannot be read: "),
        ("a.pt", b"junk", "cannot be read: "),
        ("a.pth", b"", "cannot be read: "),
        ("gone.pth", None, "cannot be read: .*No such file"),
    ],
)
def test_a_file_that_holds_no_weights_is_a_sentence(
    name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=message) as raised:
        load(network(), tmp_path / name)
    assert len(str(raised.value).splitlines()) == 1


def test_a_file_of_other_things_is_a_sentence(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "a.pt")
    with pytest.raises(ConfigurationError, match="holds no state dict"):
        load(network(), tmp_path / "a.pt")
