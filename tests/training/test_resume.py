"""Killed at any time, a run that is started again ends with the very bits of one that was never interrupted."""

from __future__ import annotations

import os
import random

import pytest

from sgp_core.tracking import read_rows
from sgp_core.training.config import CheckpointConfig, EvaluationConfig, LoaderConfig
from tests.training import tiny
from tests.workers.training import Workers

WORLD = 4
SEEDS = int(os.environ.get("SGP_RESUME_SEEDS", "3"))
"""How many random moments of death to try; more take longer."""

ADAMW = {"name": "adamw", "lr": 0.01}
CASES = [
    {"topology": {"name": "star", "weights": "uniform"}},  # PushSum weights leave 1
    {"outer": {"name": "slowmo", "tau": 4}, "optimizer": ADAMW, "compression": {"name": "low_rank", "rank": 1}},
    {
        "algorithm": {"name": "local_sgd"},
        "outer": {"name": "diloco", "tau": 6, "fragments": 2, "overlap": 2},
        "partition": {"name": "dirichlet"},
        "model": {"name": "noisy", "hidden": True},
        "optimizer": {"name": "muon"},
        "schedule": {"name": "warmup_stable_decay", "warmup_steps": 5},
    },
    {"algorithm": {"name": "allreduce"}, "optimizer": ADAMW},
    {"algorithm": {"name": "dpsgd"}, "topology": {"name": "ring"}, "training": {"accumulation_steps": 2}},
]
SETTINGS = {
    "checkpoint": CheckpointConfig(every_steps=7, keep_last=2),
    "evaluation": EvaluationConfig(consensus_every=5),
}
FROM_THE_CLOCK = {"wall_time_s", "samples_per_s", "step_time_ms", "data_time_ms", "compute_time_ms", "comm_time_ms"}


def make(case: dict) -> dict:
    data = {"name": "blobs", "train_examples": 640}
    choices = {"dataset": data, **{group: case[group] for group in case if group != "training"}}
    return tiny.experiment(WORLD, epochs=2, choices=choices, **case.get("training", {})).to_dict()


def rows_without_clock(directory) -> list[dict]:
    rows = read_rows(directory / "metrics.jsonl")
    return [{name: value for name, value in row.items() if name not in FROM_THE_CLOCK} for row in rows]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Directories of runs that nothing disturbed, made when first asked for, by case."""
    directories = {}

    def of(case: int):
        if case not in directories:
            directories[case] = tmp_path_factory.mktemp("uninterrupted")
            Workers(directories[case], make(CASES[case]), SETTINGS).finish()
        return directories[case]

    return of


@pytest.mark.parametrize("seed", range(SEEDS))
def test_sigkill_of_all_workers_at_a_random_step_changes_no_bit(tmp_path, uninterrupted, seed):
    case = seed % len(CASES)
    reference = uninterrupted(case)
    dice = random.Random(seed)
    workers = Workers(tmp_path, make(CASES[case]), SETTINGS)
    workers.wait_for_step(dice.randint(1, 28))
    workers.kill()
    Workers(tmp_path, make(CASES[case]), {**SETTINGS, "loader": LoaderConfig(processes=1)}).finish()

    states, expected = (tiny.newest_states(folder, WORLD) for folder in (tmp_path, reference))
    tiny.assert_same_bits(states, expected)
    if case == 0:
        assert len({state["gossip"]["push_sum_weight"] for state in states}) > 1
    assert states[0]["step"] == 40
    assert rows_without_clock(tmp_path) == rows_without_clock(reference)
    assert (tmp_path / "model.safetensors").read_bytes() == (reference / "model.safetensors").read_bytes()
    steps = [row["step"] for row in rows_without_clock(tmp_path) if row["split"] == "train"]
    assert steps == list(range(1, 41))
