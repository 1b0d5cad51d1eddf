"""A run that goes on with another graph or other images says so; its id is that of the settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.launched import Said

GRAPH = "the graph in topology.path is not what the run used until now: other content"


def write_graph(first: float) -> None:
    Path("graph.txt").write_text(f"0 1 {first}\n1 0 0.5  # an edge\n")


def write_images(seed: int) -> None:
    dice = np.random.default_rng(seed)
    for number in range(16):
        path = Path("photos") / ("train", "val")[number % 2] / ("cat", "dog")[number // 2 % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(dice.integers(256, size=(8, 8, 3)).astype(np.uint8)).save(path)


def test_changed_inputs_are_said(sgp_train: Callable[..., Said]) -> None:
    arguments = (
        *("dataset=image_folder", "dataset.path=photos", "dataset.image_size=8", "dataset.cache=cache", "model=mlp"),
        *("topology=custom", "topology.path=graph.txt", "cluster=local", "cluster.workers_per_node=2", "tracker=none"),
        *("training.batch_size=2", "training.max_steps=4", "checkpoint.every_steps=1"),
    )
    write_graph(0.5)
    write_images(0)
    failed = sgp_train(*arguments, "debug.fail_rank=0", "debug.fail_step=3")
    assert failed.code == 1
    assert "warning" not in failed.err
    [run] = [path for path in Path("runs").iterdir() if (path / "spec.json").exists()]
    [kept] = json.loads((run / "inputs.json").read_text())["inputs"]
    assert (kept["step"], kept["data"]["training examples"]) == (0, 8)

    write_graph(0.25)
    refused = sgp_train(*arguments)
    assert refused.code == 2
    assert refused.err == f"sgp-train: {GRAPH}; put it back, or begin anew\n"

    write_graph(0.5)
    write_images(1)
    resumed = sgp_train(*arguments)
    assert resumed.code == 0, resumed.err
    assert f"resuming in {run}" in resumed.out
    warned = resumed.err.splitlines()
    assert all(line.startswith("warning: ") for line in warned)
    assert len(warned) == 2
    assert "photos is not what it was when it was read on" in resumed.err
    assert "the data set is not what the run used until now: other content; it goes on from" in resumed.err
    before, after = json.loads((run / "inputs.json").read_text())["inputs"]
    assert before == kept
    assert after["step"] > 0
    assert (before["graph"] == after["graph"], before["data"] == after["data"]) == (True, False)

    write_graph(0.125)
    complete = sgp_train(*arguments)
    assert "complete already" in complete.out
    assert f"{GRAPH}; rerun=all trains anew" in complete.err
