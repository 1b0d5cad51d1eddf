"""Numbers that are not finite: found before anything of them leaves a worker, and named."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import sgp_core
from sgp_core.algorithms import Algorithm
from sgp_core.algorithms.base import Traits
from sgp_core.errors import ConfigurationError
from sgp_core.runtime.finite_check import MOST_SKIPS
from tests.support.workers import run_workers
from tests.workers import nonfinite


@dataclass(frozen=True)
class Sends(Algorithm):
    """Notes what it could send."""

    sent: ClassVar[list[bool]] = []

    def after_step(self, worker: Any) -> None:
        self.sent.append(all(bool(piece.isfinite().all()) for piece in worker.params.tensors))


@dataclass(frozen=True)
class Averages(Sends):
    """Notes the gradients that it could average."""

    traits = Traits(gossips=False, reads_gradients=True)

    def on_gradients(self, worker: Any) -> None:
        self.sent.append(all(bool(piece.isfinite().all()) for piece in worker.grads.tensors))


@pytest.fixture(autouse=True)
def nothing_sent() -> None:
    Sends.sent.clear()


def make(algorithm: Algorithm, lr: float = 0.1, **options: Any) -> tuple[nn.Module, sgp_core.Gossip]:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.Linear(3, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return model, sgp_core.Gossip(model, optimizer, algorithm=algorithm, **{"nonfinite": "stop", **options})


def step(model: nn.Module, gossip: sgp_core.Gossip, at: str | None = None, value: float = math.nan) -> None:
    """Take a step in which ``value`` begins in the gradient of the parameter ``at``."""
    handle = None
    if at is not None:
        layer = model.get_submodule(at.rpartition(".")[0])

        def spoil(_: Any, outgoing: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (torch.full_like(outgoing[0], value),)

        handle = layer.register_full_backward_pre_hook(spoil)
    try:
        model(torch.ones(2, 4)).sum().backward()
        gossip.optimizer.step()  # type: ignore[union-attr]
        gossip.optimizer.zero_grad()  # type: ignore[union-attr]
    finally:
        if handle is not None:
            handle.remove()


@pytest.mark.parametrize(
    ("algorithm", "options", "first"),
    [
        (Sends(), {}, [True]),
        (Averages(), {}, [True, True]),
        (Sends(), {"step_in_backward": True}, [True]),
        (Sends(), {"step_in_backward": True, "max_norm": 1.0}, [True]),
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_is_found_before_it_leaves_and_named(algorithm, options, first, value):
    model, gossip = make(algorithm, **options)
    step(model, gossip)
    assert Sends.sent == first
    kinds = "nan" if math.isnan(value) else "inf|nan"
    with pytest.raises(
        sgp_core.NotFinite,
        match=rf"^gradient of 2\.bias is ({kinds}) \(3 of 3 elements\) at step 2 on rank 0; no other",
    ) as caught:
        step(model, gossip, "2.bias", value)
    assert Sends.sent == first
    assert (caught.value.rank, caught.value.step, caught.value.tensor) == (0, 2, "gradient of 2.bias")


def test_clipping_does_not_blur_where_it_began():
    model, gossip = make(Sends())
    model(torch.ones(2, 4)).sum().backward()
    model[0].bias.grad[1] = math.nan  # type: ignore[index, union-attr]
    gossip.clip_grad_norm_(1.0)
    with pytest.raises(sgp_core.NotFinite, match=r"^gradient of 0\.bias is nan \(1 of 8 elements\)"):
        gossip.optimizer.step()  # type: ignore[union-attr]


def test_an_update_that_overflows_is_found_before_it_leaves():
    model, gossip = make(Sends(), lr=3e38)
    with pytest.raises(
        sgp_core.NotFinite, match=r"^parameter \S+ is (inf|nan) \(\d+ of \d+ elements\) at step \d on rank 0"
    ):
        step(model, gossip)
    assert Sends.sent == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_large_numbers_whose_sum_overflows_are_fine(dtype):
    model = nn.Linear(64, 64, bias=False, dtype=dtype)
    with torch.no_grad():
        model.weight.fill_(torch.finfo(dtype).max / 2)
    gossip = sgp_core.Gossip(model, torch.optim.SGD(model.parameters(), lr=0.0), algorithm=Sends(), nonfinite="stop")
    gossip.optimizer.step()
    assert Sends.sent == [True]


def test_nothing_is_looked_at_unless_it_is_asked_for():
    model, gossip = make(Sends(), nonfinite=None)
    step(model, gossip, "2.bias")
    assert Sends.sent == [False]


def test_a_scaler_leaves_out_steps_by_itself():
    model, gossip = make(Sends(), nonfinite="skip")
    optimizer = gossip.optimizer
    scaler = torch.amp.GradScaler("cpu", init_scale=1e38)
    scaler.scale(model(torch.full((2, 4), 1e6)).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert (Sends.sent, gossip.skipped_steps) == ([], 0)


@pytest.mark.parametrize("algorithm", [Sends(), Averages()])
def test_a_skipped_step_changes_no_parameter_and_no_momentum(algorithm, caplog):
    model, gossip = make(algorithm, nonfinite="skip")
    step(model, gossip)
    before = [each.detach().clone() for each in model.parameters()]
    step(model, gossip, "2.bias")
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert (gossip.skipped_steps, gossip.step) == (1, 2)
    assert caplog.messages == ["step 2 is skipped: gradient of 2.bias is nan (3 of 3 elements) on rank 0"]
    assert all(Sends.sent)
    step(model, gossip)
    assert not torch.equal(before[0], next(model.parameters()))


def test_steps_are_not_skipped_for_ever():
    model, gossip = make(Sends(), nonfinite="skip")
    for _ in range(MOST_SKIPS - 1):
        step(model, gossip, "2.bias")
    with pytest.raises(sgp_core.NotFinite, match=rf"at step {MOST_SKIPS} on rank 0, and {MOST_SKIPS - 1} steps before"):
        step(model, gossip, "2.bias")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"nonfinite": "stopp"}, "nonfinite cannot be 'stopp'; did you mean 'stop'?"),
        ({"nonfinite": "skip", "step_in_backward": True}, "inside backward, parts of a step are over before all gra"),
    ],
)
def test_what_cannot_be_is_refused(options, sentence):
    with pytest.raises(ConfigurationError, match="^" + sentence.replace("?", r"\?")):
        make(Sends(), **options)


@pytest.fixture(scope="module")
def ranks() -> list[Any]:
    return run_workers(4, nonfinite.everything)


@pytest.mark.parametrize("case", nonfinite.CASES)
def test_all_workers_skip_the_step_together(ranks, case):
    for rank in ranks:
        result = rank[case]
        assert result["finite"]
        assert (result["skipped"], result["step"]) == (1, nonfinite.STEPS)
        still = result["moved"][nonfinite.BAD_STEP - 1]
        assert still <= 1e-6 < min(moved for moved in result["moved"] if moved != still)
