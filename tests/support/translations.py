"""An exported model that translates, made up in no time."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from sgp_core.tasks.models import MODELS
from sgp_core.tasks.translation.bpe import Bpe

MODEL = {"name": "transformer", "width": 16, "feedforward": 32, "heads": 2, "encoder_layers": 1, "decoder_layers": 1}


def make_model(run: Path, sentences: list[str]) -> None:
    """Write an untrained model that is sure of what it writes, words of ``sentences``, as training does at its end."""
    bpe = Bpe.train(sentences, 100)
    bpe.save(run / "tokenizer.json")
    torch.manual_seed(4)
    options = {name: value for name, value in MODEL.items() if name != "name"}
    model = MODELS.build("transformer", **options).build(bpe.size)
    torch.nn.init.normal_(model.get_parameter("decoder.0.after_feedforward.norm.weight"), std=2.0)
    save_file(model.state_dict(), run / "model.safetensors")
    description = {
        "kind": "translation",
        "model": MODEL,
        "dataset": "parallel_text",
        "vocabulary": bpe.size,
        "tokenizer": "tokenizer.json",
        "tokenizer_sha256": bpe.digest,
    }
    (run / "model.json").write_text(json.dumps(description))
