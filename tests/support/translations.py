"""An exported model that translates, made up in no time."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from sgp_core.tasks.models import MODELS

MODEL = {"name": "transformer", "width": 16, "feedforward": 32, "heads": 2, "encoder_layers": 1, "decoder_layers": 1}


def make_model(run: Path, sentences: list[str]) -> None:
    """Write an untrained model that is sure of what it writes, words of ``sentences``, as training does at its end."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<pad>", "<bos>", "<eos>", "<unk>"]
    tokenizer.train_from_iterator(sentences, trainers.WordLevelTrainer(special_tokens=special, show_progress=False))
    tokenizer.save(str(run / "tokenizer.json"))
    torch.manual_seed(4)
    vocabulary = tokenizer.get_vocab_size()
    options = {name: value for name, value in MODEL.items() if name != "name"}
    model = MODELS.build("transformer", **options).build(vocabulary)
    torch.nn.init.normal_(model.get_parameter("decoder.0.after_feedforward.norm.weight"), std=2.0)
    save_file(model.state_dict(), run / "model.safetensors")
    description = {
        "kind": "translation",
        "model": MODEL,
        "dataset": "parallel_text",
        "vocabulary": vocabulary,
        "tokenizer": "tokenizer.json",
        "tokenizer_sha256": hashlib.sha256((run / "tokenizer.json").read_bytes()).hexdigest(),
    }
    (run / "model.json").write_text(json.dumps(description))
