"""Faults that strike a worker, in a process with one worker."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from sgp_core import Gossip
from sgp_core.errors import ConfigurationError
from sgp_core.faults import FAULTS, FaultInjector, Moment, StepFault
from sgp_core.faults.processes import FailedOnPurpose


class Loop:
    """A user's training loop."""

    def __init__(self) -> None:
        self.model = nn.Linear(3, 2)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.gossip = Gossip(self.model, self.optimizer, algorithm="sgp")
        self.losses: list[float] = []
        self.gradients: list[float] = []

    def run(self, steps: int, *faults: str, folder: Path | None = None) -> None:
        with FaultInjector(faults, folder).attach(self.model, self.optimizer, self.gossip, total_steps=steps):
            for _ in range(steps):
                self.optimizer.zero_grad()
                loss = self.model(torch.ones(4, 3)).sum()
                loss.backward()
                self.losses.append(loss.item())
                assert self.model.weight.grad is not None
                self.gradients.append(self.model.weight.grad.sum().item())
                self.optimizer.step()
            self.model.eval()
            self.model(torch.ones(4, 3))
            self.model.train()
            self.optimizer.state_dict()

    def steps_with_nan(self, values: list[float]) -> list[int]:
        return [step for step, value in enumerate(values, start=1) if math.isnan(value)]


@pytest.fixture
def loop() -> Loop:
    torch.manual_seed(0)
    return Loop()


@pytest.mark.parametrize("at", ["start", "backward", "step"])
def test_a_worker_fails_inside_the_step(loop: Loop, at: str) -> None:
    with pytest.raises(FailedOnPurpose, match=f"fail rank=0 step=3 at={at}" if at != "start" else "fail rank=0 step=3"):
        loop.run(5, f"fail rank=0 step=3 at={at}")
    assert loop.gossip.step == 2


@pytest.mark.parametrize(("at", "steps"), [("end", 3), ("evaluation", 5), ("checkpoint", 5)])
def test_a_worker_fails_after_the_step(loop: Loop, at: str, steps: int) -> None:
    with pytest.raises(FailedOnPurpose):
        loop.run(5, f"fail rank=0 step=3 at={at}")
    assert loop.gossip.step == steps


def test_other_ranks_go_on(loop: Loop) -> None:
    with pytest.raises(ConfigurationError, match="rank=1: ranks are 0 to 0"):
        loop.run(5, "fail rank=1 step=3")


def test_a_stall_lasts_and_is_recorded_once(loop: Loop, tmp_path: Path) -> None:
    begin = time.monotonic()
    loop.run(3, "stall every=2 seconds=0.2", folder=tmp_path)
    assert time.monotonic() - begin >= 0.2
    rows = [json.loads(line) for line in (tmp_path / "faults.jsonl").read_text().splitlines()]
    assert [(row["rank"], row["step"], row["fault"]) for row in rows] == [(0, 2, "stall every=2 seconds=0.2")]


def test_what_has_struck_does_not_strike_again_when_a_run_goes_on(tmp_path: Path) -> None:
    with pytest.raises(FailedOnPurpose):
        Loop().run(5, "fail step=2", folder=tmp_path)
    Loop().run(5, "fail step=2", folder=tmp_path)


@pytest.mark.parametrize(("tensor", "losses"), [("loss", [2, 3]), ("gradient", [3]), ("parameter", [2, 3])])
def test_nan_begins_where_it_was_asked_for(loop: Loop, tensor: str, losses: list[int]) -> None:
    loop.run(3, f"nan step=2 tensor={tensor}")
    assert loop.steps_with_nan(loop.losses) == losses
    assert loop.steps_with_nan(loop.gradients) == ([] if tensor == "parameter" else [2])


def test_chance_is_a_function_of_the_seed(tmp_path: Path) -> None:
    for name in "01":
        Loop().run(20, "stall step=random seed=5 seconds=0.001", folder=tmp_path / name)
    first, second = ((tmp_path / name / "faults.jsonl").read_text().splitlines() for name in "01")
    assert json.loads(first[0])["step"] == json.loads(second[0])["step"]


def test_a_verb_of_a_users_own(loop: Loop) -> None:
    from dataclasses import dataclass

    @FAULTS.register("own_verb")
    @dataclass(frozen=True, kw_only=True)
    class OwnFault(StepFault):
        """Lower the learning rate."""

        lr: float = 0.0

        def strike(self, moment: Moment) -> None:
            moment.target.optimizers[0].param_groups[0]["lr"] = self.lr

    try:
        loop.run(3, "own_verb step=2 lr=0.5")
        assert loop.optimizer.param_groups[0]["lr"] == 0.5
    finally:
        FAULTS.remove("own_verb")


def test_a_full_disk_refuses_files_and_lets_others_be(loop: Loop, tmp_path: Path) -> None:
    below, beside = tmp_path / "run", tmp_path / "beside"
    below.mkdir()
    with open(below / "open", "w") as file:
        loop.run(1, f"disk_full step=1 below={below}")
        with pytest.raises(OSError, match="No space left on device"):
            (below / "new").write_text("x")
        with pytest.raises(OSError, match="No space left on device"):
            os.write(file.fileno(), b"x")
    beside.write_text("x")
    assert list(below.iterdir()) == [below / "open"]


def test_the_newest_checkpoint_is_damaged(loop: Loop, tmp_path: Path) -> None:
    for step in (2, 10):
        folder = tmp_path / "checkpoints" / f"step-{step}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
        (folder / "rank-0.pt").write_bytes(bytes(100))
    loop.run(1, "corrupt_checkpoint step=1", folder=tmp_path)
    damaged = [path.parent.name for path in tmp_path.glob("checkpoints/*/rank-0.pt") if path.read_bytes() != bytes(100)]
    assert damaged == ["step-10"]


def test_the_clock_jumps(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", time.time)  # restored afterwards
    monkeypatch.setattr(time, "time_ns", time.time_ns)
    before = time.time()
    loop.run(1, "clock_jump seconds=-100000")
    assert time.time() < before - 90_000


def test_a_slow_link_takes_time_for_what_it_carries(loop: Loop) -> None:
    loop.run(2, "slow_link mb_per_s=0.001", "wandb_down step=1")  # one worker sends nothing, and has no service
    assert loop.gossip.step == 2
