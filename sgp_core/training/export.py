"""The averaged model as a plain state dict that anybody can load, without this project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import nn

from sgp_core.training.files import write_json


def export_model(model: nn.Module, path: Path, description: dict[str, Any]) -> None:
    """Write ``model.state_dict()`` to ``path`` (safetensors) and ``description`` beside it as JSON, each atomically.

    Tensors are written contiguous and each on its own: tied parameters appear under every one of their names, so
    ``other.load_state_dict(safetensors.torch.load_file(path))`` works for any equal module.
    """
    from safetensors.torch import save_file

    # Clones: parameters are views into one storage, and safetensors refuses tensors that share memory.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    save_file(tensors, str(temporary), metadata={"format": "pt"})
    os.replace(temporary, path)

    write_json(path.with_suffix(".json"), description)
