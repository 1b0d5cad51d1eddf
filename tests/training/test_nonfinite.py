"""Numbers that are not finite stop a run, or skip a step, and reach no checkpoint and no model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sgp_core.nonfinite import NotFinite
from sgp_core.tasks.losses import LOSSES, Loss
from sgp_core.tracking import JsonlTracker, read_rows
from sgp_core.training.callbacks import CALLBACKS, Callback, TrainingProgress
from sgp_core.training.checkpoint import CheckpointStore
from sgp_core.training.config import CheckpointConfig
from sgp_core.training.loop import TrainingDiverged, train
from tests.training import tiny


class Spoil(torch.autograd.Function):
    """Nothing in forward, nan in backward."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor) -> Tensor:
        return outputs.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return torch.full_like(gradient, math.nan)


@dataclass(frozen=True)
class Spoilt(Loss):
    """Cross-entropy that goes wrong at the given calls, counted from 1."""

    gradient_at: int = 0
    loss_at: int = 0

    task = "images"
    calls = 0

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        Spoilt.calls += 1
        if Spoilt.calls == self.gradient_at:
            outputs = Spoil.apply(outputs)
        loss = torch.nn.functional.cross_entropy(outputs, targets)
        return loss * math.nan if Spoilt.calls == self.loss_at else loss


@dataclass(frozen=True)
class Spoiler(Callback):
    """Puts nan into a part of the state after a step."""

    what: str = ""
    at: int = 1

    def after_step(self, progress: TrainingProgress) -> None:
        if progress.step != self.at:
            return
        first = progress.optimizer.param_groups[0]["params"][0]
        parts = {
            "parameter": lambda: progress.model.get_parameter("0.bias").data,
            "moment": lambda: progress.optimizer.state[first]["momentum_buffer"].view(-1),
            "buffer": lambda: progress.model.get_buffer("1.running_var"),
        }
        parts[self.what]()[0] = math.nan


@pytest.fixture(autouse=True)
def spoilt_loss() -> Iterator[None]:
    LOSSES.register("spoilt")(Spoilt)
    CALLBACKS.register("spoiler")(Spoiler)
    Spoilt.calls = 0
    yield
    LOSSES.remove("spoilt")
    CALLBACKS.remove("spoiler")


def run(
    directory: Path, training: dict[str, Any] | None = None, callbacks: Sequence[Any] = (), **options: Any
) -> dict[str, Any]:
    choices = {"loss": {"name": "spoilt", **options}, "callbacks": list(callbacks)}
    experiment = tiny.experiment(choices=choices, **{"max_steps": 15, **(training or {})})
    settings = tiny.settings(checkpoint=CheckpointConfig(every_steps=1, keep_last=100, asynchronous=False))
    return train(experiment, directory=directory, trackers=[JsonlTracker(directory / "metrics.jsonl")], **settings)


def saved(directory: Path) -> list[int]:
    return [manifest.step for manifest in CheckpointStore(directory, 1).manifests()]


@pytest.mark.parametrize("step", [2, 15])
def test_a_gradient_stops_the_run_before_it_is_saved_and_the_run_resumes(tmp_path, step):
    run(tmp_path / "whole")
    Spoilt.calls = 0
    with pytest.raises(NotFinite, match=rf"^gradient of 5\.bias is nan \(6 of 6 elements\) at step {step} on rank 0;"):
        run(tmp_path / "run", gradient_at=step)
    assert saved(tmp_path / "run")[0] == step - 1
    assert not (tmp_path / "run" / "model.safetensors").exists()
    Spoilt.calls = step
    summary = run(tmp_path / "run", gradient_at=step)
    assert (summary["status"], summary["steps"]) == ("completed", 15)
    tiny.assert_same_bits(tiny.newest_states(tmp_path / "run", 1), tiny.newest_states(tmp_path / "whole", 1))


def test_the_loss_is_named_where_it_began_there(tmp_path):
    with pytest.raises(TrainingDiverged, match=r"^loss is nan at step 3 on rank 0: try a smaller") as caught:
        run(tmp_path, loss_at=3)
    assert (caught.value.rank, caught.value.step, caught.value.tensor) == (0, 3, "loss")
    assert saved(tmp_path) == [2, 1]


@pytest.mark.parametrize("where", ["gradient_at", "loss_at"])
@pytest.mark.parametrize("more", [{}, {"accumulation_steps": 2}, {"clip_norm": 0.5}])
def test_a_step_is_skipped_and_training_goes_on(tmp_path, where, more):
    summary = run(tmp_path, {"nonfinite": "skip", **more}, **{where: 5})
    step = 3 if "accumulation_steps" in more else 5
    assert (summary["status"], summary["steps"], summary["skipped_steps"]) == ("completed", 15, 1)
    losses = {row["step"]: row["loss"] for row in read_rows(tmp_path / "metrics.jsonl") if row["split"] == "train"}
    assert [at for at, loss in losses.items() if loss is None] == [step]
    before, after = (states(tmp_path, at)["gossip"]["parameters"] for at in (step - 1, step))
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    tiny.assert_same_bits(*(states(tmp_path, at)["optimizer"]["state"] for at in (step - 1, step)))


def states(directory: Path, step: int) -> dict[str, Any]:
    store = CheckpointStore(directory, 1)
    manifest = next(each for each in store.manifests() if each.step == step)
    return store.read_shard(manifest, 0)


def test_a_checkpoint_that_is_not_finite_is_never_the_one_resumed_from(tmp_path):
    run(tmp_path, {"max_steps": 3})
    store = CheckpointStore(
        tmp_path, 1, tiny.experiment(choices={"loss": {"name": "spoilt"}}, max_steps=3).fingerprint()
    )
    state = store.read_shard(store.manifests()[0], 0)
    state["gossip"]["parameters"][0][7] = math.nan
    store.write_shard(3, 0, state)  # as versions before did
    store.commit(3)
    summary = run(tmp_path, {"max_steps": 3})
    assert summary["steps"] == 3
    assert torch.isfinite(states(tmp_path, 3)["gossip"]["parameters"][0]).all()
    assert (tmp_path / "checkpoints" / "damaged-step-3").exists()


@pytest.mark.parametrize("what", ["parameter", "moment", "buffer"])
def test_a_state_that_is_not_finite_is_not_saved(tmp_path, what):
    sentence = {
        "parameter": r"^parameter 0\.bias is nan \(1 of 6 elements\) at step 1 on rank 0: try",
        "moment": r"^optimizer\.state\.0\.momentum_buffer is not finite after step 1 on rank 0, so no checkpoint",
        "buffer": r"^buffers\.1\.running_var is not finite after step 1 on rank 0, so no checkpoint is written",
    }[what]
    with pytest.raises(NotFinite, match=sentence):
        run(tmp_path, callbacks=[{"name": "spoiler", "what": what}])
    assert saved(tmp_path) == []


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("parameter", r"^parameter 0\.bias is nan \(1 of 6 elements\) at step 13 on rank 0: try"),
        ("buffer", r"^validation loss is nan after step 13, as of rank 0$"),
    ],
)
def test_an_evaluation_that_is_not_finite_stops_the_run(tmp_path, what, sentence):
    spoiler = {"name": "spoiler", "what": what, "at": 13}
    experiment = tiny.experiment(choices={"callbacks": [spoiler]}, max_steps=20)
    with pytest.raises(NotFinite, match=sentence) as caught:
        train(experiment, directory=tmp_path, **tiny.settings())
    assert (caught.value.rank, caught.value.step) == (0, 13)
    assert saved(tmp_path) == []
