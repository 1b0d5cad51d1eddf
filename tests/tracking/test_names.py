"""On a dashboard everything stands in its section, and says what it is."""

from __future__ import annotations

import math

from sgp_core.tracking.names import dashboard_numbers, dashboard_numbers_of_rank, headline, summary_scores

TRAIN = {
    "step": 4,
    "epoch": 0.5,
    "split": "train",
    "wall_time_s": 2.0,
    "lr": 0.1,
    "loss": 1.5,
    "samples_per_s": 640.0,
    "step_time_ms": 10.0,
    "compute_time_ms": 6.0,
    "comm_time_ms": 3.0,
    "bytes_sent": 4096,
    "consensus_distance": None,
    "push_sum_weight_min": 0.9,
    "push_sum_weight_max": 0.9,
    "world_size": 2,
}
VAL = {**TRAIN, "split": "val", "loss": 1.25, "accuracy": 0.5, "bleu": 20.0, "consensus_distance": 0.01}


def test_a_training_row_fills_train_gossip_time_and_system() -> None:
    assert dashboard_numbers(TRAIN) == {
        "step": 4,
        "epoch": 0.5,
        "train/loss": 1.5,
        "train/lr": 0.1,
        "gossip/bytes_sent": 4096,
        "gossip/push_sum_weight_min": 0.9,
        "gossip/push_sum_weight_max": 0.9,
        "time/wall_s": 2.0,
        "time/samples_per_s": 640.0,
        "time/step_ms": 10.0,
        "time/compute_ms": 6.0,
        "time/comm_ms": 3.0,
        "time/data_ms": 1.0,
        "system/world_size": 2,
    }


def test_a_validation_row_adds_scores_and_leaves_the_curves_of_training_alone() -> None:
    added = {
        name: value for name, value in dashboard_numbers(VAL).items() if value != dashboard_numbers(TRAIN).get(name)
    }
    assert added == {"val/loss": 1.25, "val/accuracy": 0.5, "val/bleu": 20.0, "gossip/consensus_distance": 0.01}
    assert not [name for name in dashboard_numbers(VAL) if name.startswith("train/") or name == "time/step_ms"]


def test_what_was_not_measured_is_left_out() -> None:
    assert dashboard_numbers({"step": 1, "loss": math.nan, "lr": None, "accuracy": math.inf, "note": "text"}) == {
        "step": 1
    }


def test_a_worker_shows_what_is_its_own() -> None:
    own = dashboard_numbers_of_rank(TRAIN)
    assert own["gossip/push_sum_weight"] == 0.9
    assert {"train/loss", "time/step_ms", "gossip/bytes_sent"} <= set(own)
    assert not {"gossip/push_sum_weight_min", "train/lr", "system/world_size"} & set(own)
    assert "gossip/push_sum_weight" not in dashboard_numbers_of_rank({**TRAIN, "consensus_distance": 0.1})
    assert dashboard_numbers_of_rank(VAL) == {}


def test_a_summary_says_what_was_reached_and_where() -> None:
    assert summary_scores("best", VAL) == {
        "best/step": 4,
        "best/epoch": 0.5,
        "best/wall_s": 2.0,
        "best/loss": 1.25,
        "best/accuracy": 0.5,
        "best/bleu": 20.0,
        "best/consensus_distance": 0.01,
    }
    assert summary_scores("best", None) == {}


def test_virtual_time_is_at_every_point_as_wall_time_is() -> None:
    for row in (TRAIN, VAL):
        numbers = dashboard_numbers({**row, "virtual_time_s": 7.5})
        assert (numbers["time/wall_s"], numbers["time/virtual_s"]) == (2.0, 7.5)
    assert summary_scores("final", {**VAL, "virtual_time_s": 7.5})["final/virtual_s"] == 7.5


def test_what_runs_are_grouped_by_is_one_level_deep() -> None:
    experiment = {
        "algorithm": {"name": "sgp", "overlap_steps": 1},
        "outer": {"name": "none"},
        "partition": {"name": "dirichlet", "alpha": 0.1},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "training": {"batch_size": 32},
        "world_size": 4,
        "seed": 0,
        "topology": None,
    }
    assert headline(experiment) == {
        "algorithm": "sgp",
        "outer": "none",
        "partition": "dirichlet",
        "optimizer": "sgd",
        "lr": 0.1,
        "batch_size": 32,
        "workers": 4,
        "seed": 0,
    }


def test_the_age_of_what_asynchronous_workers_use_stands_beside_the_gossip() -> None:
    numbers = dashboard_numbers({**TRAIN, "staleness_mean": 1.5, "staleness_max": 4})
    assert (numbers["gossip/staleness_mean"], numbers["gossip/staleness_max"]) == (1.5, 4)
