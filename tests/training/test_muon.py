"""Muon steps on hidden matrices and AdamW on the rest, as torch's own would; to Gossip they are one optimizer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sgp_core
from sgp_core.errors import ConfigurationError
from sgp_core.runtime.optimizers import is_element_wise
from sgp_core.tasks.models import MODELS
from sgp_core.training.hidden_matrices import hidden_matrices
from sgp_core.training.muon import ADJUSTMENTS, orthogonalise
from sgp_core.training.optimizers import OPTIMIZERS
from sgp_core.training.optimizers.muon import LearningRateAdjustment

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4, bias=False), nn.LayerNorm(4), nn.Linear(4, 3))


def names_of(model: nn.Module) -> list[str]:
    hidden = set(map(id, hidden_matrices(model)))
    return [name for name, parameter in model.named_parameters() if id(parameter) in hidden]


def train(model: nn.Module, *optimizers: torch.optim.Optimizer, steps: int = 4, begin: int = 0) -> list[torch.Tensor]:
    for step in range(begin, begin + steps):
        inputs = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
        model(inputs).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return [parameter.detach().clone() for parameter in model.parameters()]


# -- steps -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("adjust", LearningRateAdjustment)
@pytest.mark.parametrize("nesterov", [True, False])
def test_steps_are_those_of_torchs_muon_and_adamw(adjust: str, nesterov: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = network(), network()
    of_muon = {"lr": 0.02, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.1, "adjust_lr_fn": str(adjust)}
    muon = torch.optim.Muon([one[0].weight, one[2].weight], **of_muon)  # type: ignore[index,arg-type]
    rest = [one[0].bias, *one[3].parameters(), *one[4].parameters()]  # type: ignore[index]
    adamw = torch.optim.AdamW(rest, lr=0.01, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1)
    options: dict[str, Any] = {"lr": 0.02, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.1}
    options |= {"adjust_lr": adjust, "adamw_lr_ratio": 0.5, "beta1": 0.8, "beta2": 0.9, "eps": 1e-6}
    result = train(two, OPTIMIZERS.build("muon", **options).build(two))
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    for mine, theirs in zip(result, train(one, muon, adamw), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))
def test_singular_values_become_nearly_one(rows: int, columns: int, seed: int) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    before = torch.linalg.svdvals(matrix)
    known = before > 0.05 * before.norm()  # smaller ones take more steps
    after = torch.linalg.svdvals(orthogonalise(matrix, COEFFICIENTS, 5, 1e-7))
    assert after.max() < 1.25
    assert after[: int(known.sum())].min() > 0.6
    assert orthogonalise(matrix * 0, COEFFICIENTS, 5, 1e-7).abs().max() == 0


def test_adjustments_are_torchs() -> None:
    assert sorted(ADJUSTMENTS) == sorted(LearningRateAdjustment)
    for name in ADJUSTMENTS:
        torch.optim.Muon([nn.Parameter(torch.zeros(2, 2))], adjust_lr_fn=name)


def test_one_that_is_loaded_goes_on_to_the_bit() -> None:
    whole, one, two = network(), network(), network()
    options = OPTIMIZERS.build("muon", lr=0.02, weight_decay=0.1, decay_norm_and_bias=False)
    expected = train(whole, options.build(whole), steps=6)
    first = options.build(one)
    train(one, first, steps=3)
    two.load_state_dict(one.state_dict())
    second = options.build(two)
    second.load_state_dict(first.state_dict())
    assert all(map(torch.equal, train(two, second, steps=3, begin=3), expected))


def test_decay_and_rates_come_by_group() -> None:
    model = network()
    options = {"lr": 0.5, "weight_decay": 0.1, "decay_norm_and_bias": False, "adamw_lr_ratio": 0.1}
    groups = OPTIMIZERS.build("muon", **options).build(model).param_groups
    assert [(group["lr"], group["weight_decay"], len(group["params"])) for group in groups] == [
        (0.5, 0.1, 2),
        (0.05, 0.1, 1),
        (0.05, 0.0, 4),
    ]


# -- which matrices ----------------------------------------------------------------------------------------------------
def test_hidden_matrices_are_neither_embeddings_nor_the_output() -> None:
    for tied in (True, False):
        gpt = MODELS.build("gpt", size="tiny", layers=1, tied=tied, positions="learned").build(50, 8)  # type: ignore[attr-defined]
        inside = ("attention.project", "attention.out", "feedforward.gate", "feedforward.widen", "feedforward.narrow")
        assert names_of(gpt) == [f"blocks.0.{name}.weight" for name in inside]
    mlp = MODELS.build("mlp", hidden=[6, 6]).build((1, 2, 2), 3)  # type: ignore[attr-defined]
    assert names_of(mlp) == ["1.weight", "3.weight"]


class OfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.words.weight
        self.attention = nn.MultiheadAttention(4, 2)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


class WithAWord(OfAttention):
    def hidden_matrices(self) -> list[nn.Parameter]:
        return [self.attention.in_proj_weight, self.frozen.weight]


def test_shared_frozen_and_joint_matrices() -> None:
    model = OfAttention()
    assert names_of(model) == ["attention.in_proj_weight", "attention.out_proj.weight"]
    assert names_of(WithAWord()) == ["attention.in_proj_weight"], "a model knows better"
    muon = OPTIMIZERS.build("muon", adamw_for=["attention.out"]).build(model)
    assert [id(each) for each in muon.param_groups[0]["params"]] == [id(model.attention.in_proj_weight)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"adamw_for": ["0"]}, "it has|this model has none"),
        ({"adamw_for": ["2.weihgt"]}, r"adamw_for: no hidden matrix begins with 2.weihgt"),
        ({"ns_steps": 0}, "optimizer.ns_steps must be at least 1"),
        ({"ns_steps": 100}, "optimizer.ns_steps must be below 100"),
        ({"momentum": 0.0}, "optimizer.momentum must be positive when"),
        ({"adjust_lr": "rms"}, "optimizer.adjust_lr cannot be 'rms'"),
        ({"adamw_lr_ratio": 0.0}, "optimizer.adamw_lr_ratio must be positive"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(options: dict[str, Any], says: str) -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(ConfigurationError, match=says):
        OPTIMIZERS.build("muon", **options).build(model)


@pytest.mark.parametrize("algorithm", ["sgp", "asgp"])
def test_models_that_are_vectors_are_not_taken_for_a_matrix(algorithm: str) -> None:
    rule, ring = sgp_core.build_algorithm(algorithm), sgp_core.build_topology("ring", world_size=4)
    with pytest.raises(ConfigurationError, match="Muon looks at more than one element at a time"):
        sgp_core.simulate(rule, ring, torch.ones(4, 3), lambda z, _: z, optimizer=torch.optim.Muon, steps=1)


# -- one optimizer -----------------------------------------------------------------------------------------------------
def test_gossip_follows_it_as_one() -> None:
    model = network()
    optimizer = OPTIMIZERS.build("muon").build(model)
    gossip = sgp_core.Gossip(model, optimizer, algorithm="sgp", topology="ring")
    calls: list[int] = []
    optimizer.register_step_post_hook(lambda *_: calls.append(gossip.step))
    train(model, optimizer)
    assert calls == [1, 2, 3, 4]
    assert optimizer.step(lambda: 3.0) == 3.0
    gossip.close()


def test_an_optimizer_says_whether_it_treats_elements_by_themselves() -> None:
    class Own(torch.optim.Muon):
        pass

    class Known(torch.optim.Adafactor):
        element_wise = True

    class Unknown(torch.optim.SGD):
        element_wise = False

    weight = [nn.Parameter(torch.zeros(2, 2))]
    said = {kind.__name__: is_element_wise(kind(weight)) for kind in (Own, Known, Unknown, torch.optim.AdamW)}
    assert said == {"Own": False, "Known": True, "Unknown": False, "AdamW": True}
    assert not is_element_wise(OPTIMIZERS.build("muon").build(network()))
    assert not is_element_wise(OPTIMIZERS.build("adafactor").build(network()))
