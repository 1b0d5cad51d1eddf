"""Workers import what they use: every one of them pays for an import, all at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from pathlib import Path
import launcher.worker.worker
assert "torch" not in sys.modules
import torch
from sgp_core.training import CheckpointConfig, EvaluationConfig, Experiment, TrainingConfig, train
from sgp_core.training.optimizers import OPTIMIZERS

for optimizer in OPTIMIZERS.names():
    experiment = Experiment(
        model={"name": "mlp"},
        dataset={"name": "digits"},
        topology={"name": "complete"},
        algorithm={"name": "sgp"},
        outer={"name": "none"},
        optimizer={"name": optimizer, **({"class_name": "RMSprop"} if optimizer == "torch" else {})},
        schedule={"name": "constant"},
        training=TrainingConfig(max_steps=2),
        world_size=1,
    )
    train(
        experiment,
        directory=Path(sys.argv[1], optimizer),
        device=torch.device("cpu"),
        evaluation=EvaluationConfig(),
        checkpoint=CheckpointConfig(),
    )
dear = {"torch._dynamo", "sympy", "torchvision", "sklearn", "scipy", "networkx", "pandas", "matplotlib", "wandb"}
print(sorted((dear | {"PIL", "hydra", "omegaconf", "rich"}) & sys.modules.keys()))
"""


def test_a_worker_imports_nothing_it_does_not_use(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
