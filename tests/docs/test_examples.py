"""The example files do what they say, with real workers."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import sgp_core
from sgp_core.errors import ConfigurationError
from tests.docs.pages import EXAMPLES, ROOT
from tests.support.waiting import PATIENCE_S
from tests.support.workers import run_workers


def accuracy(said: str) -> float:
    found = re.search(r"accuracy (\d\.\d+), consensus distance (\S+)", said)
    assert found is not None, said
    return float(found[1])


def test_library_example_is_short_and_trains_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert len((EXAMPLES / "library.py").read_text().splitlines()) < 40
    runpy.run_path(str(EXAMPLES / "library.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert said.startswith("1 workers, 450 steps")
    assert accuracy(said) > 0.93


def test_library_example_trains_under_torchrun() -> None:
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*program, str(EXAMPLES / "library.py")], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 workers, 230 steps")
    assert accuracy(done.stdout) > 0.93


def test_own_algorithm_averages_before_the_step() -> None:
    runpy.run_path(str(EXAMPLES / "own_algorithm.py"), run_name="example")
    ring = sgp_core.build_topology("ring", world_size=8)
    b = torch.arange(8.0, dtype=torch.float64).unsqueeze(1)
    rule = sgp_core.build_algorithm("average_then_step", gamma=0.4)
    run = sgp_core.simulate(rule, ring, torch.zeros_like(b), lambda z, step: z - b, steps=8)
    w, x = torch.from_numpy(ring.mixing_matrix(0)), torch.zeros_like(b)
    for step in range(8):
        x = x + 0.4 * (w @ x - x) - 0.1 * (x - b)
        torch.testing.assert_close(run.z[step + 1], x, rtol=0, atol=1e-12)
    with pytest.raises(ConfigurationError, match="rows and columns both sum to 1"):
        rule.check(sgp_core.build_topology("star", world_size=4, weights="uniform"))


def own_algorithm_trains() -> list[list[float]]:
    """In each of the workers: pull towards one's own target; return the model after each step."""
    names = runpy.run_path(str(EXAMPLES / "own_algorithm.py"), run_name="example")
    model = torch.nn.Linear(1, 2, bias=False).double()
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    topology = sgp_core.build_topology("ring", world_size=2)
    gossip = sgp_core.Gossip(model, optimizer, algorithm=names["AverageThenStep"](gamma=0.5), topology=topology)
    target = torch.tensor([[1.0], [2.0]], dtype=torch.float64) * (gossip.rank + 1)
    models = []
    for _ in range(6):
        ((model.weight - target) ** 2).sum().div(2).backward()
        optimizer.step()
        optimizer.zero_grad()
        models.append(model.weight.detach().flatten().tolist())
    return models


def test_own_algorithm_runs_in_real_workers_as_in_the_simulator() -> None:
    names = runpy.run_path(str(EXAMPLES / "own_algorithm.py"), run_name="example")
    b = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64)
    ring = sgp_core.build_topology("ring", world_size=2)
    run = sgp_core.simulate(
        names["AverageThenStep"](gamma=0.5), ring, torch.zeros_like(b), lambda z, step: z - b, steps=6
    )
    real = torch.tensor(run_workers(2, own_algorithm_trains), dtype=torch.float64).transpose(0, 1)
    torch.testing.assert_close(real, run.z[1:], rtol=0, atol=1e-14)


def nodes_example_trains() -> tuple[float, int]:
    names = runpy.run_path(str(EXAMPLES / "nodes.py"), run_name="__main__")
    return names["loss"].item(), names["gossip"].bytes_sent


def test_nodes_example_trains_sharded_nodes() -> None:
    results = run_workers(4, nodes_example_trains)
    parameters = 20 * 50 + 50 + 50 + 1
    for loss, sent in results:
        assert loss < 0.05
        assert sent == pytest.approx(200 * 4 * parameters / 2, rel=0.05)


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "make_results.py"), run_name="make_results")


def written_run(folder: Path, overrides: list[str], distances: list[float], scores: list[float]) -> None:
    """Write what make_results.py reads of a run: four steps in two epochs."""
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps({"overrides": overrides}))
    common = {"world_size": 8, "bytes_sent": 0}
    rows: list[dict[str, Any]] = []
    for step, distance in enumerate(distances, start=1):
        rows.append({**common, "step": step, "epoch": step / 2, "split": "train", "consensus_distance": distance})
        if step % 2 == 0:
            score = {"split": "val", "accuracy": scores[step // 2 - 1], "bytes_sent": 1500 * step}
            rows.append({**rows[-1], **score})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_results_are_read_off_run_folders(results: dict[str, Any], tmp_path: Path) -> None:
    for number, (name, words) in enumerate(results["CURVES"].items()):
        for seed in results["SEEDS"]:
            far = 0.0 if name == "AllReduce" else 0.1
            written_run(
                tmp_path / f"run-{number}-{seed}",
                [f"seed={seed}", "cluster.workers_per_node=8", *words],
                [0.9, 0.8, far, far / 2],
                [0.5, 0.9 + 0.01 * seed],
            )
    found = results["collect"](tmp_path)
    table = results["table"](found)
    assert "| AllReduce | 0.910 (0.900 to 0.920) | 0 (rounding) | 1.5 kB |" in table
    assert "| SGP | 0.910 (0.900 to 0.920) | 0.100 | 1.5 kB |" in table
    assert results["curve"](found["SGP"], "val", "accuracy") == ([2, 4], [0.5, 0.9], [0.5, 0.91], [0.5, 0.92])
    results["draw"](found, tmp_path / "picture.svg")
    assert "svg" in (tmp_path / "picture.svg").read_text()[:200]


def test_front_page_has_the_results(results: dict[str, Any]) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    written = page.split(results["BEGIN"])[1].split(results["END"])[0].strip().splitlines()
    assert [line.split("|")[1].strip() for line in written[2:]] == list(results["CURVES"])
    assert results["with_table"](page, "\n".join(written) + "\n") == page
    assert 1000 < results["PICTURE"].stat().st_size < 200_000
