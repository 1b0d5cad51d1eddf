"""Exported language models, made up in no time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sgp_core.tasks.language_modelling.byte_bpe import ByteBpe
from sgp_core.tasks.models import MODELS

TEXT = ["In the beginning God created the heaven and the earth.\n", "Jesus wept.\n", "Rejoice evermore, ä€𝄞.\n"]
LLAMA: dict[str, Any] = {"name": "gpt", "size": "tiny", "layers": 2, "width": 32, "heads": 2, "hidden": 48}
GPT2: dict[str, Any] = {**LLAMA, "positions": "learned", "norm": "layer", "activation": "gelu", "bias": True}


def make_language_model(
    run: Path, model: dict[str, Any] = LLAMA, *, context: int = 16, spare: int = 0, scale: float = 4.0
) -> Any:
    """Write an untrained model as training does at its end, and return it.

    Args:
        spare: tokens that it knows beyond those of the tokenizer.
        scale: by which its matrices are larger than at the beginning of training, so that it has opinions.
    """
    bpe = ByteBpe.train(TEXT * 3, 300)
    bpe.save(run / "tokenizer.json")
    torch.manual_seed(4)
    options = {name: value for name, value in model.items() if name != "name"}
    built: Any = MODELS.build(model["name"], **options)
    network = built.build(bpe.size + spare, context).eval()
    for parameter in network.parameters():
        if parameter.ndim == 2:
            parameter.data *= scale
        else:  # norms and biases that do nothing would hide mistakes
            parameter.data += 0.1 * torch.randn(parameter.shape)
    save_file({name: tensor.clone() for name, tensor in network.state_dict().items()}, run / "model.safetensors")
    description = {
        "kind": "language_modelling",
        "model": model,
        "dataset": "text",
        "vocabulary": bpe.size + spare,
        "context": context,
        "tokenizer": "tokenizer.json",
        "tokenizer_sha256": bpe.digest,
        "step": 7,
    }
    (run / "model.json").write_text(json.dumps(description))
    return network
