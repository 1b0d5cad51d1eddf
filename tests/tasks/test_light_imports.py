"""Choosing data, models, optimizers and schedules, and checking the choices, must not import torch."""

import subprocess
import sys

SCRIPT = """
import sys
from sgp_core.errors import ConfigurationError
from sgp_core.tasks.datasets import DATASETS
from sgp_core.tasks.models import MODELS
from sgp_core.tasks.images.models.torchvision import resolve_model
from sgp_core.tasks.sharding import ExampleSampler
from sgp_core.training.optimizers import OPTIMIZERS
from sgp_core.training.schedules import SCHEDULES

for registry in (DATASETS, MODELS, OPTIMIZERS, SCHEDULES):
    for name in registry.names():
        if name == "torch":  # torch's own, about which torch is asked
            continue
        choice = registry.build(name)
        if registry is DATASETS:
            try:
                choice.check()
            except ConfigurationError:
                pass
assert resolve_model({"name": "resnet50"})["architecture"] == "resnet50"
assert ExampleSampler(10, 2, 0, 2).steps_per_epoch == 3
print(sorted({"torch", "torchvision", "sklearn", "PIL", "hydra", "omegaconf", "tokenizers"} & sys.modules.keys()))
"""


def test_nothing_heavy_is_imported_to_choose() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
