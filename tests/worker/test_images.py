"""Photographs at full size, and processes that prepare them, in whole runs."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable

import torch
import torchvision
from safetensors.torch import load_file

from launcher.system import processes
from tests.execution.test_run import LONG, only_run
from tests.support.launched import Launched, read

Launch = Callable[..., Launched]


def test_resnet50_takes_a_step_in_bf16_and_torchvision_loads_what_is_left(launch: Launch) -> None:
    launched = launch(
        *("dataset=synthetic_images", "dataset.train_examples=8", "dataset.validation_examples=2"),
        *("model=torchvision", "model.name=resnet50", "model.zero_init_residual=true", "optimizer.lr=0.01"),
        *("training.max_steps=1", "training.batch_size=2", "training.precision=bf16", "training.channels_last=true"),
        *("cluster.workers_per_node=2", "cluster.threads_per_worker=1", "loader.processes=1", "tracker=none"),
    )
    said = launched.finish()
    assert (said.code, said.err) == (0, "")
    run = only_run(launched)
    assert math.isfinite(read(run / "summary.json")["final"]["loss"])
    state = load_file(run / "model.safetensors")
    model = torchvision.models.resnet50(num_classes=10)
    model.load_state_dict(state, strict=True)
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    assert state["layer1.0.bn3.weight"].abs().max() > 0  # zero before the step


def test_a_killed_loader_process_ends_the_run_in_a_sentence(launch: Launch) -> None:
    launched = launch(*LONG, "cluster.workers_per_node=2")
    run = launched.until_training(workers=2)
    [loader] = processes.children(read(run / "rank-1.json")["pid"])
    os.kill(loader.pid, signal.SIGKILL)
    said = launched.finish()
    assert said.code == 1
    assert launched.left() == []
    sentence = f"a loader process (pid {loader.pid}) was ended by SIGKILL; was there enough memory?"
    assert f"worker 1 failed: LoaderDied: {sentence}" in said.err
