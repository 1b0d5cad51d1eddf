"""Files of tensors in the format safetensors, written atomically."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sgp_core.atomic_files import replace_file


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors, contiguous and each on its own: those that share memory appear under every name.

    Raises:
        OSError: the file cannot be written; one of that name stays as it was.
    """
    from safetensors.torch import save_file

    # Clones: parameters are views into one storage, and safetensors refuses tensors that share memory.
    alone = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # as the umask has it; safetensors keeps its files to the user
        save_file(alone, str(temporary), metadata={"format": "pt"})
        temporary.chmod(mode)
