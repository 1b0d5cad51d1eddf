"""The table of the small CIFAR-10 experiments is what the run folders say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import cifar10_small
from suite import tables
from tests.docs.pages import ROOT


def folder(
    runs: Path, base: str, outer: str, seed: int, accuracy: float, sent: float, status: str = "completed"
) -> None:
    """Write what the benchmark reads of a run."""
    place = runs / f"{base}-{outer}-{seed}"
    place.mkdir(parents=True)
    experiment = {"algorithm": {"name": base}, "outer": {"name": outer}, "seed": seed}
    final = {"accuracy": accuracy, "consensus_distance": 0.0, "bytes_sent": sent}
    (place / "spec.json").write_text(json.dumps({"experiment": experiment}))
    (place / "summary.json").write_text(json.dumps({"status": status, "steps": 780, "final": final}))
    rows = [
        {"split": "train", "consensus_distance": 0.2},
        {"split": "train", "consensus_distance": None},
        {"split": "val", **final},
    ]
    (place / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_a_row_for_each_base_and_outer_over_its_seeds(tmp_path: Path) -> None:
    folder(tmp_path, "sgp", "slowmo", 0, 0.64, 5e6)
    folder(tmp_path, "allreduce", "none", 1, 0.60, 15e6)
    folder(tmp_path, "allreduce", "none", 0, 0.62, 15e6)
    folder(tmp_path, "osgp", "none", 0, 0.10, 5e6, status="failed")
    (tmp_path / "sweeps").mkdir()
    rows = cifar10_small.rows_of(cifar10_small.collect(tmp_path))
    assert [(row["base"], row["outer"], row["seeds"]) for row in rows] == [
        ("allreduce", "none", [0, 1]),
        ("sgp", "slowmo", [0]),
    ]
    assert rows[0]["accuracy"] == pytest.approx(0.61)
    assert rows[0]["accuracies"] == [0.62, 0.60]
    assert tables.markdown(rows, cifar10_small.COLUMNS, labels=2).splitlines()[2:] == [
        "| `allreduce` | `none` | 2 | 61.00 | 60.00 to 62.00 | 0.0e+00 | 1.0e-01 | 15.0 | 1.00 |",
        "| `sgp` | `slowmo` | 1 | 64.00 | 64.00 to 64.00 | 0.0e+00 | 1.0e-01 | 5.0 | 0.33 |",
    ]


@pytest.mark.parametrize("base", cifar10_small.BASES)
@pytest.mark.parametrize("outer", cifar10_small.OUTERS)
def test_runs_presets_that_are_there(base: str, outer: str) -> None:
    assert (ROOT / "conf" / "experiment" / f"{cifar10_small.preset(base, outer)}.yaml").exists()
