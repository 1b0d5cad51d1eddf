"""Saving and copying a model, or a part of it, costs what it did before Gossip moved it to flat memory."""

from __future__ import annotations

import copy
import gc
import io
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_model, save_file, save_model
from torch import Tensor, nn

import sgp_core

OVERHEAD_BYTES = 8192
"""What torch.save writes beside the numbers."""


class Tied(nn.Module):
    """Parameters of three dtypes, some tied, one frozen, one of no element and one of a single one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.encode = nn.Linear(6, 50, bias=False)
        self.decode = nn.Linear(6, 50, bias=False)
        self.decode.weight = self.encode.weight
        self.norm = nn.BatchNorm1d(50)
        self.frozen = nn.Parameter(torch.ones(7), requires_grad=False)
        self.narrow = nn.Parameter(torch.arange(9.0).to(torch.bfloat16))
        self.none = nn.Parameter(torch.ones(0, 3))
        self.one = nn.Parameter(torch.tensor(2.0))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.conv(images).mean((2, 3))
        return self.norm(self.encode(hidden) + self.decode(hidden)).sum() * self.one + self.narrow.float().sum()


def attach(model: nn.Module) -> tuple[sgp_core.Gossip, torch.optim.Optimizer]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return sgp_core.Gossip(model, optimizer, algorithm=sgp_core.build_algorithm("sgp")), optimizer


def saved_bytes(value: object) -> int:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getbuffer().nbytes


@pytest.fixture
def large() -> nn.Sequential:
    """256 kB a layer, 16 layers."""
    model = nn.Sequential(*(nn.Linear(255, 257) if n % 2 == 0 else nn.Linear(257, 255) for n in range(16)))
    attach(model)
    return model


def test_a_part_is_saved_without_the_rest(large):
    one = sum(p.numel() * 4 for p in large[0].parameters())
    assert saved_bytes(large[0].state_dict()) < one + OVERHEAD_BYTES
    assert saved_bytes(large[0]) < one + OVERHEAD_BYTES
    assert len(pickle.dumps(large[0].weight)) < one + OVERHEAD_BYTES
    assert saved_bytes(large.state_dict()) < 16 * (one + OVERHEAD_BYTES)


def test_copies_are_no_larger_than_what_is_copied(large):
    for name, tensor in large.state_dict().items():
        assert copy.deepcopy(tensor).untyped_storage().nbytes() == tensor.numel() * 4, name
    twin = copy.deepcopy(large)
    assert torch.equal(twin[3].weight, large[3].weight)
    assert twin[3].weight.untyped_storage().nbytes() == large[3].weight.numel() * 4


def test_every_kind_of_parameter_goes_through_every_format(tmp_path: Path):
    model = Tied()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attach(model)
    assert model.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert model.encode.weight is model.decode.weight
    save_model(model, str(tmp_path / "model.safetensors"))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    for load in (
        lambda other: load_model(other, str(tmp_path / "model.safetensors")),
        lambda other: other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True)),
    ):
        other = Tied()
        load(other)
        for name, value in other.state_dict().items():
            assert torch.equal(value, before[name]), name
            assert value.dtype == before[name].dtype, name


def test_the_memory_is_still_one_vector_that_training_and_loading_reach():
    model = Tied()
    gossip, optimizer = attach(model)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    model(torch.randn(4, 3, 8, 8)).backward()
    optimizer.step()
    flat = torch.cat([tensor.double() for tensor in gossip.shard.flat.tensors])
    total = sum(float(p.detach().double().sum()) for p in model.parameters() if p.requires_grad)
    assert float(flat.sum()) == pytest.approx(total)
    assert not torch.equal(model.conv.weight, start["conv.weight"])
    model.load_state_dict(start)  # in place, so in the vector
    loaded = sum(float(value.double().sum()) for name, value in start.items() if name in trainable)
    assert float(torch.cat([tensor.double() for tensor in gossip.shard.flat.tensors]).sum()) == pytest.approx(loaded)


def test_autograd_still_notices_a_parameter_that_is_changed_before_backward():
    model = nn.Linear(3, 2)
    attach(model)
    loss = model(torch.randn(4, 3, requires_grad=True)).square().sum()
    with torch.no_grad():
        model.weight.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_the_memory_lives_as_long_as_one_parameter():
    model = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 300))
    gossip, optimizer = attach(model)
    gossip.close()
    weight, expected = model[1].weight, model[1].weight.detach().clone()
    del model, gossip, optimizer
    gc.collect()
    [torch.full((300, 300), 7.0) for _ in range(50)]  # would take freed memory
    assert torch.equal(weight, expected)


def test_the_average_comes_as_plain_tensors(tmp_path: Path):
    model = Tied()
    gossip, optimizer = attach(model)
    model(torch.randn(4, 3, 8, 8)).backward()
    optimizer.step()
    state = gossip.averaged_state_dict("cpu")
    assert list(state) == list(model.state_dict())
    for name, value in state.items():
        own = model.state_dict()[name]
        assert torch.equal(value, own), name
        assert type(value) is Tensor, name
        assert value.untyped_storage().nbytes() == value.numel() * value.element_size(), name
        assert value.data_ptr() != own.data_ptr() or not value.numel(), name
    assert state["encode.weight"] is state["decode.weight"]
    Tied().load_state_dict(state)
    del state["decode.weight"]
    state["conv.weight"] = state["conv.weight"].contiguous()  # as of any model in channels_last
    save_file(state, str(tmp_path / "average.safetensors"))
