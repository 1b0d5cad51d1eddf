"""docs/examples/hugging_face_trainer.py, killed under torchrun and continued under accelerate launch."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file

from sgp_core.integrations.transformers import last_complete_checkpoint
from tests.docs.pages import EXAMPLES
from tests.support.waiting import PATIENCE_S, wait_until

SCRIPT = str(EXAMPLES / "hugging_face_trainer.py")
OPTIONS = ["--use_cpu", "--report_to=none", "--disable_tqdm=True", "--per_device_train_batch_size=4"]
OPTIONS += ["--save_steps=4", "--logging_steps=2", "--learning_rate=3e-3", "--lr_scheduler_type=constant"]
QUIET = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def history(checkpoint: str) -> list[dict[str, Any]]:
    state: dict[str, Any] = json.loads(Path(checkpoint, "trainer_state.json").read_text())
    return state["log_history"]


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a launcher with its workers, each of which is a session of its own."""
    for each in [*psutil.Process(process.pid).children(recursive=True), process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


def test_a_killed_script_goes_on_where_it_saved(tmp_path: Path) -> None:
    folder = tmp_path / "gpt2"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    command = [*torchrun, SCRIPT, f"--output_dir={folder}", "--max_steps=100000", *OPTIONS]
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(command, env=QUIET, stdout=log, stderr=log, text=True)
    try:
        works = lambda: first.poll() is None  # noqa: E731
        wait_until(lambda: last_complete_checkpoint(folder), (tmp_path / "log").read_text, works=works)
    finally:
        kill(first)
    stopped = last_complete_checkpoint(folder)
    assert stopped is not None
    steps = int(stopped.rpartition("-")[2]) + 4

    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=4"]
    launch += ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
    command = [*launch, SCRIPT, f"--output_dir={folder}", f"--max_steps={steps}", *OPTIONS]
    done = subprocess.run(command, env=QUIET, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert f"{steps} steps: " in done.stdout
    assert 1 < float(done.stdout.split(f"{steps} steps: ")[1].split()[0]) < 8  # bits per byte, said by one worker
    assert done.stdout.count("bits per byte") == 1

    ended = str(folder / f"checkpoint-{steps}")
    before = history(stopped)
    rows = history(ended)
    assert rows[: len(before)] == before
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.2
    shards = json.loads(Path(ended, "gossip", "manifest.json").read_text())["shards"]
    states = [torch.load(Path(ended, "gossip", shard["file"]), weights_only=True)["gossip"] for shard in shards]
    assert [state["step"] for state in states] == [steps] * 4
    replicas = [torch.cat([each.flatten() for each in state["parameters"]]) for state in states]
    assert all((replicas[0] - other).abs().max() > 0 for other in replicas[1:])
    assert load_file(folder / "model.safetensors").keys() == load_file(Path(ended, "model.safetensors")).keys()
