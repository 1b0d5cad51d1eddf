"""Optimizers are torch's own, with exactly the options asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sgp_core.errors import ConfigurationError
from sgp_core.training.optimizers import OPTIMIZERS
from sgp_core.training.optimizers.eager import eager

TORCH: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any], dict[str, Any]]] = {
    "sgd": (
        torch.optim.SGD,
        {"lr": 0.3, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
        {"lr": 0.3, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
    ),
    "adam": (
        torch.optim.Adam,
        {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.1},
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1},
    ),
    "adamw": (
        torch.optim.AdamW,
        {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.1},
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1},
    ),
}
OTHERS = {"muon": "test_muon.py", "torch": "test_torch_choices.py", "adafactor": "below"}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3)).double()


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        inputs = torch.randn(8, 5, generator=generator, dtype=torch.float64)
        optimizer.zero_grad()
        model(inputs).square().sum().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("name", TORCH)
def test_steps_are_torchs(name: str) -> None:
    cls, ours, theirs = TORCH[name]
    one, two = network(), network()
    expected = train(one, cls(one.parameters(), foreach=False, fused=False, **theirs))  # type: ignore[call-arg]
    result = train(two, OPTIMIZERS.build(name, **ours).build(two))
    for a, b in zip(result, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_every_optimizer_is_held_against_torch() -> None:
    assert sorted([*TORCH, *OTHERS]) == OPTIMIZERS.names()


def test_steps_of_adafactor_are_torchs() -> None:
    one, two = network(), network()
    theirs = {"lr": 0.1, "beta2_decay": -0.5, "eps": (1e-9, 0.01), "d": 2.0, "weight_decay": 0.1}
    ours = {"lr": 0.1, "beta2_decay": -0.5, "eps1": 1e-9, "eps2": 0.01, "d": 2.0, "weight_decay": 0.1}
    expected = train(one, torch.optim.Adafactor(one.parameters(), **theirs))  # type: ignore[arg-type]
    assert all(map(torch.equal, train(two, OPTIMIZERS.build("adafactor", **ours).build(two)), expected))


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize(
    ("given", "torchs"),
    [
        ({}, {"fused": True, "foreach": None}),
        ({"fused": True}, {"fused": True, "foreach": None}),
        ({"foreach": False}, {"fused": True, "foreach": None}),
        ({"foreach": True}, {"fused": False, "foreach": True}),
        ({"fused": False}, {"fused": None, "foreach": None}),
        ({"fused": False, "foreach": False}, {"fused": False, "foreach": False}),
    ],
)
def test_an_implementation_can_be_chosen(name: str, given: dict[str, bool], torchs: dict[str, Any]) -> None:
    one, two = network(), network()
    optimizer = OPTIMIZERS.build(name, **given).build(one)
    [group] = optimizer.param_groups
    assert {option: group[option] for option in torchs} == torchs
    for a, b in zip(train(one, optimizer), train(two, OPTIMIZERS.build(name).build(two)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", TORCH)
def test_decay_can_spare_norms_and_biases(name: str) -> None:
    model = network()
    optimizer = OPTIMIZERS.build(name, weight_decay=0.1, decay_norm_and_bias=False).build(model)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decay[id(parameter)] for parameter in model.parameters()] == [0.1, 0.0, 0.0, 0.0, 0.1, 0.0]
    assert len({group["lr"] for group in optimizer.param_groups}) == 1
    everything = OPTIMIZERS.build(name, weight_decay=0.1).build(model)
    assert [group["weight_decay"] for group in everything.param_groups] == [0.1]


def test_frozen_and_shared_parameters_are_taken_once_or_not_at_all() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    assert isinstance(model[0], nn.Linear)
    assert isinstance(model[1], nn.Linear)
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    (group,) = OPTIMIZERS.build("sgd").build(model).param_groups
    assert len(group["params"]) == 4
    model.requires_grad_(False)
    with pytest.raises(ConfigurationError, match="nothing can be trained"):
        OPTIMIZERS.build("sgd").build(model)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("sgd", {"lr": 0.0}, "optimizer.lr must be positive"),
        ("sgd", {"lr": float("nan")}, "optimizer.lr must be positive"),
        ("adam", {"weight_decay": -1.0}, "optimizer.weight_decay must be zero or more"),
        ("sgd", {"momentum": 1.0}, r"optimizer.momentum must be in \[0, 1\)"),
        ("sgd", {"momentum": 0.0, "nesterov": True}, "optimizer.momentum must be positive when optimizer.nesterov"),
        ("adam", {"beta1": -0.1}, "optimizer.beta1"),
        ("adamw", {"beta2": 1.0}, "optimizer.beta2"),
        ("adamw", {"eps": 0.0}, "optimizer.eps"),
        ("adamw", {"momentum": 0.9}, "has no option 'momentum'"),
        ("sgd", {"fused": True, "foreach": True}, "only one of them can be true"),
        ("adafactor", {"beta2_decay": 0.1}, "optimizer.beta2_decay must be at most 0"),
        ("adafactor", {"d": 0.5}, "optimizer.d must be at least 1"),
        ("adafactor", {"eps2": -1.0}, "optimizer.eps2 must be zero or more"),
    ],
)
def test_options_out_of_range_are_named(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        OPTIMIZERS.build(name, **options)


@pytest.mark.parametrize("name", TORCH)
def test_optimizers_are_torchs_to_whoever_asks(name: str) -> None:
    cls, ours, theirs = TORCH[name]
    one, two, options = network(), network(), OPTIMIZERS.build(name, **ours)
    expected, optimizer = cls(options.parameter_groups(one), fused=True, **theirs), options.build(two)  # type: ignore[call-arg]
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    train(one, expected)
    train(two, optimizer)
    assert isinstance(optimizer, cls)
    assert repr(optimizer) == repr(expected)
    assert len(calls) == 5
    state = expected.state_dict()
    assert str(optimizer.state_dict()) == str(state)
    optimizer.load_state_dict(state)
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(3))]})
    assert len(optimizer.param_groups) == 2


def test_methods_that_torch_does_not_decorate_stay_as_they_are() -> None:
    class Plain(torch.optim.SGD):
        def zero_grad(self, set_to_none: bool = True) -> None:
            self.zeroed = True

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.sub_(group["lr"] * parameter.grad)

    weight = nn.Parameter(torch.ones(2))
    optimizer = eager(Plain)([weight], lr=0.5)
    optimizer.zero_grad()
    (weight * 1.0).sum().backward()
    optimizer.step()
    assert optimizer.zeroed
    assert weight.tolist() == [0.5, 0.5]
