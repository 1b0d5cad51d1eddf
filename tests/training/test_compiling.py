"""What is compiled are blocks, under the names they had; they compute what they computed before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.models import MODELS
from sgp_core.training.compiling import blocks, compile_blocks
from sgp_core.training.config import Compile, TrainingConfig
from tests.training import tiny


class Layered(nn.Module):
    """Like a transformer: layers in a list, one of which has a list of its own."""

    def __init__(self) -> None:
        super().__init__()
        inner = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        self.embedding = nn.Linear(8, 8)
        self.layers = nn.ModuleList([inner, nn.Sequential(nn.Sequential(inner, nn.ReLU()), nn.Linear(8, 8))])


def test_blocks_are_residual_blocks_and_layers_of_transformers() -> None:
    small = MODELS.build("resnet18_cifar", width=4).build((3, 8, 8), 10)
    assert [type(block).__name__ for block in blocks(small)] == ["ResidualBlock"] * 8
    resnet = MODELS.build("torchvision", architecture="resnet18").build((3, 32, 32), 10)
    assert [type(block).__name__ for block in blocks(resnet)] == ["BasicBlock"] * 8
    assert [type(block).__name__ for block in blocks(Layered())] == ["TransformerEncoderLayer"] * 2


def test_compiled_blocks_keep_names_and_numbers() -> None:
    torch.manual_seed(0)
    model = MODELS.build("resnet18_cifar", width=4).build((3, 8, 8), 10)
    names, inputs = list(model.state_dict()), torch.randn(2, 3, 8, 8)
    expected = model(inputs)
    graphs = []

    def backend(graph: torch.fx.GraphModule, example: list[torch.Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    compile_blocks(model, backend=backend)
    assert torch.equal(model(inputs), expected)
    assert list(model.state_dict()) == names
    assert len(graphs) in range(1, 9)  # blocks of one kind and shape share theirs


def test_a_model_of_single_layers_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^training.compile=blocks: this model has no blocks, only single"):
        compile_blocks(MODELS.build("mlp").build((1, 8, 8), 10))


def test_runs_from_before_there_was_a_choice_keep_their_identity() -> None:
    assert "compile" not in tiny.experiment().identity()["training"]
    compiled = tiny.experiment(compile="blocks")
    assert compiled.training.compile is Compile.blocks
    assert compiled.identity()["training"]["compile"] == "blocks"
    with pytest.raises(ConfigurationError, match=r"training.compile cannot be 'block'; did you mean 'blocks'"):
        TrainingConfig(compile="block")
