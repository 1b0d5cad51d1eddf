"""The exported file is a plain state dict, whatever memory the parameters lived in."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load_file
from torch import nn

from sgp_core.training.export import export_model


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm1d(4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.embedding.weight


def test_tied_flat_and_channels_last_parameters_load_anywhere(tmp_path):
    model = Tied().to(memory_format=torch.channels_last)
    flat = torch.randn(1000)
    model.norm.weight.data, model.norm.bias.data = flat[0:4], flat[4:8]
    model.norm.running_mean.fill_(3)
    export_model(model, tmp_path / "model.safetensors", {"model": {"name": "tied"}})

    other = Tied()
    other.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    assert json.loads((tmp_path / "model.json").read_text()) == {"model": {"name": "tied"}}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
