"""Damaged checkpoints: what loads is what was saved, and what does not load is refused, at every start."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from sgp_core.checkpoint_files import CheckpointError
from sgp_core.runtime.state_folder import StateFolder
from sgp_core.training.checkpoint import CheckpointStore
from sgp_core.training.peers import Peers
from sgp_core.training.saver import restore
from tests.fuzz.mutate import cases, mutate

ALONE = Peers(torch.device("cpu"))
EXPERIMENT = "e" * 64
STEPS = (10, 20)
_LONGEST = 600


def state_of(step: int) -> dict[str, Any]:
    dice = torch.Generator().manual_seed(step)
    return {
        "step": step,
        "gossip": {"parameters": [torch.randn(60, generator=dice)], "push_sum_weight": 1.0},
        "optimizer": {"state": {0: {"step": torch.tensor(float(step))}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "buffers": {"norm.running_mean": torch.randn(5, generator=dice)},
        "report": {"best": None, "seconds": 1.5},
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def mutate_file(path: Path, seed: int) -> None:
    path.write_bytes(mutate(path.read_bytes(), seed))


def empty(path: Path, seed: int) -> None:
    path.write_bytes(b"")


def lose(path: Path, seed: int) -> None:
    path.unlink()


def replace_by_folder(path: Path, seed: int) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path, seed: int) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_dangling_link(path: Path, seed: int) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def exchange(path: Path, seed: int) -> None:
    """Put the same file of the other checkpoint in its place."""
    others = [each for each in path.parents[1].glob(f"step-*/{path.name}") if each != path and each.is_file()]
    path.write_bytes(others[0].read_bytes() if others else b"")


_RARE: tuple[Callable[[Path, int], None], ...] = (
    *(empty, lose, replace_by_folder, replace_by_pipe, replace_by_dangling_link, exchange),
)


def damage(folder: Path, seed: int) -> set[int]:
    """Damage one file or more; return the steps of the checkpoints that are as they were."""
    dice = random.Random(seed)
    files = sorted(folder.glob("step-*/*"))
    chosen = dice.sample(files, dice.choice((1, 1, 1, 2, 4)))
    for path in chosen:
        way = dice.choice(_RARE) if dice.random() < 0.2 and path.exists() else mutate_file
        way(path, seed)
    return {step for step in STEPS if not any(path.parent.name == f"step-{step}" for path in chosen)}


def refusal_of(work: Callable[[], Any], case: object) -> str:
    """Return the message with which ``work`` refuses; any other error is the test's failure."""
    with pytest.raises(CheckpointError) as caught:
        work()
    message = str(caught.value)
    assert message, case
    assert "\n" not in message, (case, message)
    assert len(message) < _LONGEST, (case, message)
    return message


def test_damaged_checkpoints_of_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = CheckpointStore(tmp_path / "whole", 1, EXPERIMENT)
    for step in STEPS:
        whole.write_shard(step, 0, state_of(step))
        whole.commit(step, 0.5)
    counts: Counter[str] = Counter()
    for seed in cases(80):
        run = tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", run)
        untouched = damage(run / "checkpoints", seed)
        store = CheckpointStore(run, 1, EXPERIMENT)
        caplog.clear()
        try:
            state = restore(store, ALONE)
        except CheckpointError:
            assert not untouched, seed
            for _ in range(2):  # and no later start begins afresh
                assert "is whole" in refusal_of(partial(restore, store, ALONE), seed)
            counts["refused"] += 1
            continue
        assert state is not None, (seed, "a start from step 0")
        assert same(state, state_of(state["step"])), seed
        assert state["step"] >= max(untouched, default=0), seed
        if state["step"] < max(STEPS):
            assert any("training goes on from step 10" in message for message in caplog.messages), seed
            counts["the one before"] += 1
        else:
            counts["the newest"] += 1
        again = restore(store, ALONE)
        assert again is not None
        assert same(again, state), seed
    print(dict(counts))
    assert counts["refused"]
    assert counts["the one before"]


def test_damaged_saves_of_the_library(tmp_path: Path) -> None:
    StateFolder(tmp_path / "whole", None).write(state_of(7), {"step": 7, "world_size": 1})
    counts: Counter[str] = Counter()
    for seed in cases(60):
        saved = tmp_path / "saved"
        shutil.rmtree(saved, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", saved)
        dice = random.Random(seed)
        path = dice.choice(sorted(saved.iterdir()))
        way = dice.choice(_RARE[:-1]) if dice.random() < 0.2 else mutate_file
        way(path, seed)
        folder = StateFolder(saved, None)

        def load(folder: StateFolder = folder) -> dict[str, Any]:
            return folder.read(folder.manifest(), 0)

        try:
            state = load()
        except CheckpointError:
            refusal_of(load, seed)
            counts["refused"] += 1
            continue
        assert same(state, state_of(7)), seed
        counts["loaded"] += 1
    print(dict(counts))
    assert counts["refused"]
