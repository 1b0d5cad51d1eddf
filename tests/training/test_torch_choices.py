"""Torch's optimizers and schedules by their names: what torch computes, and a sentence for what it has not."""

from __future__ import annotations

import subprocess
import sys
import typing
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler

from launcher.config.compose import compose
from launcher.config.make_plan import make_plan
from sgp_core.errors import ConfigurationError
from sgp_core.training.config import Experiment
from sgp_core.training.optimizers import OPTIMIZERS
from sgp_core.training.schedules import SCHEDULES
from tests.support.command_line import composed

OPTIONS: dict[str, dict[str, Any]] = {
    "ASGD": {"alpha": 0.5},
    "Adadelta": {"rho": 0.8},
    "Adafactor": {"d": 2.0},
    "Adagrad": {"lr_decay": 0.1},
    "Adam": {"betas": [0.8, 0.9]},
    "AdamW": {"amsgrad": True},
    "Adamax": {"eps": 1e-6},
    "NAdam": {"momentum_decay": 0.01},
    "RAdam": {"decoupled_weight_decay": True},
    "RMSprop": {"alpha": 0.9, "momentum": 0.5, "centered": True},
    "Rprop": {"etas": [0.4, 1.1]},
    "SGD": {"momentum": 0.9, "nesterov": True},
}
SCHEDULE_OPTIONS: dict[str, dict[str, Any]] = {
    "CosineAnnealingLR": {"eta_min": 0.01},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 4},
    "ExponentialLR": {"gamma": 0.5},
    "LinearLR": {"total_iters": 3},
    "MultiStepLR": {"milestones": [1, 3]},
    "OneCycleLR": {"max_lr": 0.4},
    "PolynomialLR": {"power": 2.0},
    "StepLR": {"step_size": 2},
}
REFUSED = {"LBFGS", "SparseAdam", "Muon"}
EPOCH, EPOCHS = 3, 5


def plan_of(*words: str) -> Experiment:
    return make_plan(composed(*words)).experiment


def steps(model: nn.Module, optimizer: optim.Optimizer) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 5, generator=generator)).square().sum().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))


def test_every_optimizer_of_torch_can_be_chosen_or_is_refused() -> None:
    classes = {name for name, cls in vars(optim).items() if isinstance(cls, type) and issubclass(cls, optim.Optimizer)}
    assert classes - {"Optimizer"} <= OPTIONS.keys() | REFUSED


@pytest.mark.parametrize("name", OPTIONS)
def test_steps_are_those_of_torch(name: str) -> None:
    values = OPTIMIZERS.get("torch").resolve_choice({"name": name.lower(), **OPTIONS[name]})
    assert (values["name"], values["class_name"]) == ("torch", name)
    one, two = network(), network()
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in OPTIONS[name].items()}
    expected = steps(one, getattr(optim, name)(one.parameters(), **given))
    result = steps(two, OPTIMIZERS.build(values.pop("name"), **values).build(two))
    for a, b in zip(result, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", OPTIONS)
def test_options_have_the_types_of_torchs_constructor(name: str) -> None:
    cls = getattr(optim, name)
    hints, ours = typing.get_type_hints(cls.__init__), typing.get_type_hints(OPTIMIZERS.get("torch"))
    known = {entry.name for entry in fields(OPTIMIZERS.get("torch"))}  # type: ignore[arg-type]
    for option, hint in hints.items():
        if option in ("params", "return", "foreach", "fused", "capturable", "differentiable", "maximize", "eps"):
            continue
        assert option in known, f"torch's {name} has a new option, {option}"
        parts = {*typing.get_args(hint), hint}
        expected = list[float] if typing.get_origin(hint) is tuple else bool if bool in parts else float
        assert expected in typing.get_args(ours[option])


@pytest.mark.parametrize("name", SCHEDULE_OPTIONS)
def test_learning_rates_are_those_of_torch(name: str) -> None:
    values = SCHEDULES.get("torch").resolve_choice({"name": name, **SCHEDULE_OPTIONS[name]})
    schedule = SCHEDULES.build(values.pop("name"), **values).with_rate(0.1)
    by_step = name in ("OneCycleLR", "CyclicLR")
    unit = 1 if by_step else EPOCH
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    length = {"CosineAnnealingLR": {"T_max": EPOCHS}, "OneCycleLR": {"total_steps": EPOCH * EPOCHS}}.get(name, {})
    theirs = getattr(lr_scheduler, name)(optimizer, **SCHEDULE_OPTIONS[name], **length)
    for step in range(EPOCH * EPOCHS):
        rate = 0.1 * schedule.factor(step, EPOCH, EPOCH * EPOCHS, 4)
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % unit == 0 and step + 1 < EPOCH * EPOCHS:
            theirs.step()
    again = SCHEDULES.build("torch", **values).with_rate(0.1)
    assert again.factor(7, EPOCH, EPOCH * EPOCHS, 4) == schedule.factor(7, EPOCH, EPOCH * EPOCHS, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("optimizer=torch",),
            r"optimizer=torch needs the name of a class of torch, as in optimizer.name=ASGD; known: ",
        ),
        (("optimizer=torch", "optimizer.name=RMSProb"), r"torch has no optimizer 'RMSProb'; did you mean 'RMSprop'\?"),
        (("optimizer=torch", "optimizer.name=LBFGS"), r"optimizer=torch cannot be LBFGS: it computes the loss several"),
        (("optimizer=torch", "optimizer.name=Rprop", "optimizer.eps=1"), r"optimizer.eps: Rprop has no such option"),
        (
            ("optimizer=torch", "optimizer.name=SGD", "+optimizer.momentun=1"),
            r"SGD has no such option; did you mean 'momentum'",
        ),
        (
            ("optimizer=torch", "optimizer.name=SGD", "optimizer.momentum=much"),
            r"optimizer.momentum=much: expected a number",
        ),
        (
            ("optimizer=torch", "optimizer.name=SGD", "optimizer.momentum=-1"),
            r"SGD refuses its options: Invalid momentum",
        ),
        (("schedule=torch", "schedule.name=StepLR"), r"schedule.step_size must be given: StepLR has no default for it"),
        (("schedule=torch", "schedule.name=LambdaLR"), r"schedule=torch cannot be LambdaLR: its options are functions"),
        (
            ("schedule=torch", "schedule.name=ReduceLROnPlateau"),
            r"cannot be ReduceLROnPlateau: it is no function of the",
        ),
        (
            ("schedule=torch", "schedule.name=OneCycleLR", "schedule.max_lr=1", "schedule.anneal_strategy=x"),
            r"OneCycleLR refuses",
        ),
        (("algorithm=qg_dsgdm", "optimizer=torch", "optimizer.name=Adam"), r"a momentum of its own"),
        (
            ("outer=slowmo", "optimizer=torch", "optimizer.name=Rprop"),
            r"that of Rprop does not start at zero; use outer.bu",
        ),
    ],
)
def test_mistakes_are_told_in_a_sentence(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        plan_of(*arguments)


@pytest.mark.parametrize(("group", "name"), [("optimizer", "RMSprop"), ("schedule", "OneCycleLR")])
def test_a_name_in_the_place_of_the_choice_is_answered_with_the_way(group: str, name: str) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"unknown {group} '{name}'; write {group}=torch {group}.name={name}$"
    ):
        compose([f"{group}={name}"])


def test_an_algorithm_with_its_own_momentum_takes_plain_steps_of_torch() -> None:
    plan_of("algorithm=qg_dsgdm", "optimizer=torch", "optimizer.name=SGD")
    plan_of("outer=slowmo", "outer.buffers=maintain", "optimizer=torch", "optimizer.name=Rprop")


def test_options_of_the_command_line_arrive() -> None:
    words = ("optimizer=torch", "optimizer.name=adam", "optimizer.betas=[0.8,0.9]", "schedule=torch")
    experiment = plan_of(*words, "schedule.name=MultiStepLR", "schedule.milestones=[1,3]")
    assert (experiment.optimizer["class_name"], experiment.optimizer["betas"]) == ("Adam", [0.8, 0.9])
    assert (experiment.schedule["milestones"], experiment.schedule["per"]) == ([1, 3], "epoch")


def test_defaults_are_part_of_the_identity() -> None:
    short = plan_of("optimizer=torch", "optimizer.name=RMSprop")
    told = plan_of("optimizer=torch", "optimizer.name=RMSprop", "optimizer.lr=0.01", "optimizer.alpha=0.99")
    assert short.fingerprint() == told.fingerprint()
    assert short.fingerprint() != plan_of("optimizer=torch", "optimizer.name=Rprop").fingerprint()


def test_showing_the_choice_needs_no_torch() -> None:
    script = """
import sys
sys.modules["torch"] = None
from launcher.cli.train import main
sys.exit(main(["optimizer=torch", "schedule=torch", "--cfg", "job"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "step_sizes: null" in done.stdout
