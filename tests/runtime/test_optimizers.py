"""What steps over a model under Gossip is exchanged, or refused: other optimizers, parameters, wrappers."""

from __future__ import annotations

import gc
import weakref
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.optim.optimizer import register_optimizer_step_pre_hook

import sgp_core
from sgp_core.errors import ConfigurationError
from tests.support.workers import run_workers
from tests.workers import optimizers


def wrap(inner: torch.optim.Optimizer) -> Any:
    """Return a Lookahead as it is often written: without ``Optimizer.__init__``, which prepares a class for hooks."""

    class Lookahead(torch.optim.Optimizer):
        def __init__(self) -> None:
            self._optimizer_step_pre_hooks: OrderedDict[int, Any] = OrderedDict()
            self._optimizer_step_post_hooks: OrderedDict[int, Any] = OrderedDict()
            self.inner, self.param_groups, self.state, self.defaults = inner, inner.param_groups, inner.state, {}
            self.slow = [p.detach().clone() for group in self.param_groups for p in group["params"]]
            self.count = 0

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            self.inner.step(closure)
            self.count += 1
            if self.count % 2 == 0:
                fast = [p for group in self.param_groups for p in group["params"]]
                for slow, parameter in zip(self.slow, fast, strict=True):
                    parameter.copy_(slow.lerp_(parameter, 0.5))

    return Lookahead()


class SAM(torch.optim.Optimizer):
    """Whose users call ``first_step`` and ``second_step``, and never ``step``."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})
        self.inner = torch.optim.SGD(self.param_groups, lr=0.1)

    def second_step(self) -> None:
        self.inner.step()


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))


def attach(model: nn.Module, optimizer: Any, **options: Any) -> sgp_core.Gossip:
    return sgp_core.Gossip(model, optimizer, algorithm=sgp_core.build_algorithm("sgp"), **options)


def backward(model: nn.Module) -> None:
    model(torch.ones(5, 4)).square().sum().backward()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01)


def steps(model: nn.Module, *all_optimizers: Any) -> None:
    backward(model)
    for optimizer in all_optimizers:
        optimizer.step()
        optimizer.zero_grad()


# -- optimizers that wrap others ---------------------------------------------------------------------------------------
def test_a_wrapper_is_followed_from_its_first_step_on():
    model = make_model()
    optimizer = wrap(sgd(model))
    gossip = attach(model, optimizer)
    for step in range(3):
        steps(model, optimizer)
        assert gossip.step == step + 1


def test_a_wrapper_around_the_optimizer_that_gossip_knows_is_refused():
    model = make_model()
    inner = sgd(model)
    attach(model, inner)
    outer = wrap(inner)
    outer.zero_grad()  # from here on torch calls hooks
    with pytest.raises(
        RuntimeError, match=r"Lookahead steps over .* was given SGD, .* give Gossip the optimizer whose"
    ):
        steps(model, outer)


def test_a_wrapper_whose_step_is_never_called_is_refused():
    model = make_model()
    optimizer = SAM(model.parameters())
    attach(model, optimizer)
    backward(model)
    with pytest.raises(RuntimeError, match="SGD steps over parameters of a model whose Gossip was given SAM"):
        optimizer.second_step()


def test_a_wrapper_that_cannot_be_followed_is_refused():
    class Bare(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            self.inner, self.param_groups = inner, inner.param_groups

        def step(self, closure: Any = None) -> None:
            self.inner.step(closure)

    model = make_model()
    with pytest.raises(ConfigurationError, match=r"Bare has no step hooks, .* give Gossip the optimizer that it wraps"):
        attach(model, Bare(sgd(model)))


def test_a_scheduler_around_a_step_without_hooks_is_refused():
    model = make_model()
    optimizer = wrap(sgd(model))
    optimizer.inner.param_groups[0]["initial_lr"] = 0.1
    StepLR(optimizer, 1)
    with pytest.raises(ConfigurationError, match="build Gossip before"):
        attach(model, optimizer)


def test_a_subclass_whose_step_calls_that_of_its_base_steps_once():
    class Shrinking(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    sgd(make_model())  # from here on torch calls hooks in the step of the base
    model = make_model()
    optimizer = Shrinking(model.parameters(), lr=0.01)
    gossip = attach(model, optimizer)
    for step in range(3):
        steps(model, optimizer)
        assert gossip.step == step + 1


# -- several optimizers ------------------------------------------------------------------------------------------------
def test_several_optimizers_step_as_one():
    alone, model = make_model(), make_model()
    optimizer = torch.optim.SGD(alone.parameters(), lr=0.01, momentum=0.9)
    parts = [torch.optim.SGD(part.parameters(), lr=0.01, momentum=0.9) for part in model]
    gossip = attach(model, parts)
    for _ in range(3):
        steps(alone, optimizer)
        steps(model, *parts)
    assert gossip.step == 3
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), model.parameters(), strict=True))
    steps(model, parts[0])  # the first of a step of two
    assert gossip.step == 3
    steps(model, parts[1])
    assert gossip.step == 4


def test_workers_with_several_optimizers_agree_with_those_with_one():
    for result in run_workers(2, optimizers.several_beside_one):
        assert result == {"same": 0.0, "weight": 0.0, "steps": 8, "reset": True}


def test_steps_inside_backward_need_one_optimizer():
    model = make_model()
    with pytest.raises(ConfigurationError, match="step_in_backward needs a single optimizer, here are 2"):
        attach(model, [sgd(part) for part in model], step_in_backward=True)


@pytest.mark.parametrize(
    ("given", "said"), [([], "an optimizer, or a list of optimizers"), (["sgd"], "not str"), (3, "not 3")]
)
def test_what_is_no_optimizer_is_refused(given, said):
    with pytest.raises(ConfigurationError, match=said):
        attach(make_model(), given)


# -- what changes after Gossip was built -------------------------------------------------------------------------------
def test_another_optimizer_over_the_model_is_refused():
    model = make_model()
    optimizer = sgd(model)
    attach(model, optimizer)
    steps(model, optimizer)
    other = torch.optim.AdamW(model.parameters())
    with pytest.raises(RuntimeError, match="AdamW steps over parameters of a model whose Gossip was given SGD"):
        steps(model, other)


def test_optimizers_of_other_models_and_closed_gossip_are_left_alone():
    model, stranger = make_model(), make_model()
    gossip = attach(model, sgd(model))
    other = sgd(stranger)
    steps(stranger, other)
    steps(stranger, other)
    gossip.close()
    steps(model, sgd(model))


def test_an_unfrozen_parameter_is_refused_at_the_step():
    model = make_model()
    model[0].requires_grad_(False)
    optimizer = sgd(model)
    gossip = attach(model, optimizer)
    steps(model, optimizer)
    model[0].weight.requires_grad_(True)
    with pytest.raises(RuntimeError, match=r"'0\.weight' was unfrozen after Gossip was built, .* build Gossip anew"):
        steps(model, optimizer)
    gossip.close()
    again = attach(model, optimizer)
    steps(model, optimizer)
    assert again.step == 1


def test_parameters_added_to_the_optimizer_are_followed_or_refused():
    model = make_model()
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.01)
    attach(model, optimizer)
    before = model[0].weight.detach().clone()
    optimizer.add_param_group({"params": list(model[0].parameters())})  # exchanged from the start, so all is well
    steps(model, optimizer)
    assert not torch.equal(model[0].weight, before)
    new = nn.Parameter(torch.ones(2))
    optimizer.add_param_group({"params": [new]})
    with pytest.raises(RuntimeError, match="was added to the optimizer after Gossip was built"):
        steps(model, optimizer)


@pytest.mark.parametrize("way", ["assign", "layer", "parameter"])
def test_replaced_parameters_are_refused_at_the_step(way):
    model = make_model()
    optimizer = sgd(model)
    attach(model, optimizer)
    steps(model, optimizer)
    if way == "assign":
        model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()}, assign=True)
    elif way == "layer":
        model[1] = nn.Linear(3, 2)
    else:
        model[1].bias = nn.Parameter(torch.zeros(2))
    with pytest.raises(RuntimeError, match=r"parameter '[01]\.(weight|bias)' was replaced after Gossip was built"):
        steps(model, optimizer)


def test_what_changes_no_parameter_of_the_optimizer_is_allowed():
    model = make_model()
    optimizer = sgd(model)
    gossip = attach(model, optimizer)
    model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()})
    model[1].teacher = make_model()  # trainable, but no optimizer has it
    nn.utils.parametrizations.orthogonal(nn.Linear(3, 3))
    optimizer.load_state_dict(optimizer.state_dict())
    steps(model, optimizer)
    assert gossip.step == 1


def collect_garbage(*_: object) -> None:
    gc.collect()


def test_gossip_may_be_collected_while_torch_goes_through_its_hooks():
    other = sgd(make_model())
    gc.disable()
    collecting = register_optimizer_step_pre_hook(collect_garbage)
    try:
        model = make_model()
        known = weakref.ref(attach(model, sgd(model)))
        del model
        other.step()
    finally:
        gc.enable()
        collecting.remove()
    assert known() is None


def test_nothing_is_kept_alive():
    model = make_model()
    optimizer = sgd(model)
    known = weakref.ref(model), weakref.ref(attach(model, optimizer))
    steps(model, optimizer)
    del model, optimizer
    gc.collect()
    assert [each() for each in known] == [None, None]
