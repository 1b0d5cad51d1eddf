"""One run, killed again and again: with messages under way it ends with the same bits, without order with its mass."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
import torch

from sgp_core.tracking import read_rows
from sgp_core.training.checkpoint import CheckpointStore
from sgp_core.training.config import CheckpointConfig, EvaluationConfig
from tests.training import tiny
from tests.workers.training import Workers

WORLD = 4
EPOCH = 20
STEPS = 3 * EPOCH
LEARNING = 16
KILLS = int(os.environ.get("SGP_KILLS", "0"))
"""How often each run is killed; 0: as often as its test says. More take longer, up to 20 or so."""

SEED = int(os.environ.get("SGP_KILLS_SEED", "0"))
SETTINGS = {
    "checkpoint": CheckpointConfig(every_steps=2, keep_last=STEPS, keep_best=False),
    "evaluation": EvaluationConfig(every_epochs=2),
}
STAR = {"name": "star", "weights": "uniform"}
SLOWMO = {"name": "slowmo", "tau": 7}
OVERLAPPING = {
    "two steps": {"algorithm": {"name": "osgp", "overlap_steps": 2}, "topology": STAR, "outer": SLOWMO},
    "plain": {"algorithm": {"name": "osgp"}, "topology": STAR},
    "slowmo": {"algorithm": {"name": "osgp"}, "topology": STAR, "outer": SLOWMO},
    "int8": {"algorithm": {"name": "osgp"}, "topology": STAR, "outer": SLOWMO, "compression": {"name": "int8"}},
}


def experiment(choices: dict) -> dict:
    data = {"name": "blobs", "train_examples": EPOCH * WORLD * 8}
    return tiny.experiment(WORLD, epochs=STEPS // EPOCH, choices={"dataset": data, **choices}).to_dict()


def saved(directory: Path) -> dict[int, list[dict]]:
    """Return what each rank saved, by step, the newest complete checkpoint first."""
    store = CheckpointStore(directory, WORLD)
    return {
        manifest.step: [store.read_shard(manifest, rank) for rank in range(WORLD)] for manifest in store.manifests()
    }


def newest(directory: Path) -> list[dict]:
    """Return what each rank saved in the newest complete checkpoint; none if there is none yet."""
    return next(iter(saved(directory).values()), [])


def kill_again_and_again(directory: Path, choices: dict, after: int, kills: int) -> list[list[dict]]:
    """Start a run as often as it takes, killed at random moments from a step on; return what each kill left behind."""
    dice = random.Random(SEED)
    left = []
    others = dice.sample(range(after + 2, STEPS - 1), (KILLS or kills) - 1)
    for step in sorted([after + 1, *others]):
        workers = Workers(directory, experiment(choices), SETTINGS)
        workers.wait_for_step(step)
        time.sleep(dice.uniform(0.0, 0.02))
        workers.kill()
        left.append(newest(directory))
    Workers(directory, experiment(choices), SETTINGS).finish()
    return left


@pytest.mark.parametrize("case", ["two steps", "int8", *(["plain", "slowmo"] if KILLS else [])])
def test_overlap_sgp_ends_with_the_bits_of_a_run_that_was_never_killed(tmp_path: Path, case: str) -> None:
    choices = OVERLAPPING[case]
    Workers(tmp_path / "whole", experiment(choices), SETTINGS).finish()
    left = kill_again_and_again(tmp_path / "killed", choices, after=11, kills=1)
    kept = {"two steps": "in_flight", "int8": "ahead"}.get(case)
    assert kept is None or any(state["gossip"][kept] for states in left for state in states)
    memories = {"anchor", "slow_momentum"} if "outer" in choices else set()
    assert all(state["gossip"]["memories"].keys() == memories for state in left[-1])
    tiny.assert_same_bits(*(tiny.newest_states(tmp_path / name, WORLD) for name in ("killed", "whole")))
    exported = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("killed", "whole")]
    assert exported[0] == exported[1]
    rows = [row["step"] for row in read_rows(tmp_path / "killed" / "metrics.jsonl") if row["split"] == "train"]
    assert rows == list(range(1, STEPS + 1))


def masses(states: list[dict]) -> tuple[torch.Tensor, float]:
    """Return the sums over workers of numerators and of weights."""
    weights = [state["gossip"]["push_sum_weight"] for state in states]
    models = [torch.cat(state["gossip"]["parameters"]).double() for state in states]
    return sum(w * z for w, z in zip(weights, models, strict=True)), sum(weights)


@pytest.mark.parametrize(("algorithm", "topology"), [("asgp", "directed_ring"), ("adpsgd", "alternating_ring")])
def test_asynchronous_workers_keep_their_mass(tmp_path: Path, algorithm: str, topology: str) -> None:
    """They learn for some steps. Then they hardly do, so that nothing but averaging changes them."""
    schedule = {"name": "step", "decay_epochs": [LEARNING / EPOCH], "decay": 1e-30}
    choices = {"algorithm": {"name": algorithm}, "topology": {"name": topology}, "schedule": schedule}
    left = kill_again_and_again(tmp_path, choices, after=EPOCH, kills=1)
    learnt = saved(tmp_path)[LEARNING]
    before, _ = masses(learnt)
    spreads = []
    for states in [learnt, *left, newest(tmp_path)]:
        assert len({state["step"] for state in states}) == 1, "they meet to save"
        assert states[0]["step"] >= LEARNING
        numerators, weights = masses(states)
        assert abs(weights - WORLD) < 1e-12
        torch.testing.assert_close(numerators, before, rtol=0, atol=1e-5)
        models = torch.stack([torch.cat(state["gossip"]["parameters"]) for state in states])
        spreads.append(float((models.amax(0) - models.amin(0)).max()))
    assert spreads[0] > 1e-4, "there was something to average"
    assert spreads[-1] < spreads[0], "and it was"
