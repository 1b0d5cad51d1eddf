"""Who takes part in the leaderboard, its one run, and the table and picture that are made of it."""

from __future__ import annotations

import json
import runpy
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import leaderboard
from sgp_core.algorithms import ALGORITHMS, OUTERS
from suite import tables
from suite.leaderboard.contestants import Contestant, all_contestants
from suite.leaderboard.digits import Workers, accuracies, splits
from suite.leaderboard.run import Setting, run, schedule
from tests.benchmarks.running import run_small
from tests.docs.pages import ROOT

RING = Contestant("dpsgd", "ring", 0.9)


@pytest.fixture(scope="module")
def maker() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "make_leaderboard.py"), run_name="make_leaderboard")


def test_everyone_who_marches_together_takes_part() -> None:
    contestants = all_contestants(16)
    marching = {name for name in ALGORITHMS.names() if ALGORITHMS.get(name).traits.one_sided is None}
    assert {one.algorithm for one in contestants} == marching
    assert {one.outer for one in contestants if one.outer} == set(OUTERS.names())
    assert len(set(contestants)) == len(contestants)
    lines = {(one.name, one.graph, one.momentum_is) for one in contestants}
    assert {("dpsgd", "ring", "0.9"), ("qg_dsgdm", "ring", "its own"), ("sgp", "exponential", "-")} <= lines
    assert ("allreduce", "-", "0.9") in lines
    assert not any(one.momentum for one in contestants if ALGORITHMS.get(one.algorithm).traits.own_momentum)


def test_splits_share_no_example() -> None:
    sizes = {name: len(split.targets) for name, split in splits().items()}
    assert sizes == {"train": 1150, "validation": 287, "test": 360}


def test_workers_gradients_are_those_of_each_worker_alone() -> None:
    workers = Workers(4, 0.1, 8, 3, seed=0)
    z = workers.initial() + 0.1 * torch.randn(4, workers.initial().shape[1], generator=torch.Generator().manual_seed(0))
    together = workers.gradient(z, 1)
    [batch] = [workers._batches[2, 1]]
    train, model = (
        splits()["train"],
        torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)),
    )
    torch.nn.utils.vector_to_parameters(z[2], model.parameters())
    torch.nn.functional.cross_entropy(model(train.inputs[batch].flatten(1)), train.targets[batch]).backward()
    alone = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
    torch.testing.assert_close(together[2], alone, rtol=1e-4, atol=1e-6)


def test_models_that_diverged_know_nothing() -> None:
    assert accuracies(torch.full((2, 4810), float("nan")), "test").tolist() == [0.0, 0.0]


def test_schedule_warms_up_and_drops_twice() -> None:
    rates = [schedule(1.0, step, 100) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert [rates[74], rates[75], rates[89], rates[90]] == pytest.approx([1.0, 0.1, 0.1, 0.01])


def test_a_run_says_what_it_sent_and_how_good_it_is() -> None:
    found = run(RING, Setting(workers=4, steps=20), alpha=10.0, lr=0.1, seed=0)
    assert found == run(RING, Setting(workers=4, steps=20), alpha=10.0, lr=0.1, seed=0)
    assert found["bytes_per_step"] == 2 * 4 * 4810  # to both neighbours of a ring, in float32
    assert 0.7 < found["worst"] <= found["mean"]
    assert 0.7 < found["averaged"] <= 1.0
    assert 0.0 < found["consensus_distance"] < 1.0
    other = run(Contestant("allreduce", "complete", 0.9), Setting(workers=4, steps=2), alpha=10.0, lr=0.1, seed=0)
    assert other["bytes_per_step"] == 2 * 3 / 4 * 4 * 4810
    assert other["consensus_distance"] == pytest.approx(0.0, abs=1e-6)


def test_small_table_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maker: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """In threads: worker processes would take longer to start than to run."""
    monkeypatch.setattr(leaderboard, "main", partial(leaderboard.main, ThreadPoolExecutor))
    options = "--only dpsgd qg_dsgdm --workers 4 --steps 8 --alphas 10 0.1 --rates 0.1 0.2 --tuning-seeds 1 --seeds 2"
    threads = torch.get_num_threads()
    about, rows = run_small(leaderboard, f"{options} --processes 1", tmp_path, monkeypatch)
    torch.set_num_threads(threads)
    assert {(row["name"], row["alpha"]) for row in rows} == {(n, a) for n in ("dpsgd", "qg_dsgdm") for a in (10.0, 0.1)}
    assert all(len(row["seeds"]["averaged"]) == 2 and row["lr"] in (0.1, 0.2) for row in rows)
    assert about["claim"]["averaged"]["seeds"] == 2
    assert tables.leaderboard(rows) in capsys.readouterr().out
    page = maker["PAGE"].read_text(encoding="utf-8")
    made = maker["with_table"](page, {"about": about, "rows": rows})
    assert maker["with_table"](made, {"about": about, "rows": rows}) == made
    assert "| `qg_dsgdm` | ring | its own |" in made
    assert "points, better in" in made
    maker["draw"](rows, tmp_path / "picture.svg")
    assert "svg" in (tmp_path / "picture.svg").read_text()[:200]


def test_page_is_of_the_figures_that_are_kept(maker: dict[str, Any]) -> None:
    written = json.loads(maker["FOUND"].read_text(encoding="utf-8"))
    page = maker["PAGE"].read_text(encoding="utf-8")
    assert maker["with_table"](page, written) == page
    about = written["about"]
    assert (about["workers"], about["alphas"]) == (16, [10.0, 1.0, 0.1])
    assert about["seeds"] >= 3
    assert about["seconds"] < 600
    names = {(one.name, one.graph, one.momentum_is) for one in all_contestants(16)}
    assert {(row["name"], row["graph"], row["momentum"]) for row in written["rows"]} == names
    assert maker["PICTURE"].exists()


def test_quasi_global_momentum_beats_the_optimizers_where_data_differ_most(maker: dict[str, Any]) -> None:
    """The order that Lin et al. (2021) report, in the figures that are kept."""
    claim = json.loads(maker["FOUND"].read_text(encoding="utf-8"))["about"]["claim"]
    assert claim["averaged"]["mean"] > 2 * claim["averaged"]["error"]
    assert claim["worst"]["mean"] > 2 * claim["worst"]["error"]


def test_picture_of_partitions_is_drawn(maker: dict[str, Any], tmp_path: Path) -> None:
    maker["draw_shares"](tmp_path / "partitions.svg")
    assert "svg" in (tmp_path / "partitions.svg").read_text()[:200]
