"""Models take the data they are built for, and start from the global random state."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from sgp_core.errors import ConfigurationError
from sgp_core.tasks.images.models.torchvision import architectures, resolve_model
from sgp_core.tasks.models import MODELS


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "options", "example", "count"),
    [
        ("mlp", {}, (1, 8, 8), (64 * 256 + 256) + (256 * 10 + 10)),
        ("mlp", {"hidden": []}, (1, 8, 8), 64 * 10 + 10),
        ("mlp", {"hidden": [5, 7]}, (3, 4, 4), (48 * 5 + 5) + (5 * 7 + 7) + (7 * 10 + 10)),
        ("cnn", {}, (3, 32, 32), 115_274),
        ("cnn", {"width": 16, "norm": "group"}, (1, 28, 28), None),
        ("cnn", {"norm": "batch"}, (1, 8, 8), None),
        ("cnn", {}, (3, 61, 97), 115_274),
        ("resnet18_cifar", {}, (3, 8, 8), 11_173_962),
        ("resnet18_cifar", {"width": 8, "zero_init_residual": True}, (1, 28, 28), None),
        ("torchvision", {"architecture": "shufflenet_v2_x0_5"}, (3, 32, 32), None),
        ("torchvision", {"architecture": "squeezenet1_1"}, (1, 32, 32), None),
    ],
)
def test_logits_gradients_and_seed(
    name: str, options: dict[str, object], example: tuple[int, int, int], count: int | None
) -> None:
    def build() -> nn.Module:
        torch.manual_seed(3)
        return MODELS.build(name, **options).build(example, 10)

    model = build()
    if count is not None:
        assert parameters(model) == count
    logits = model(torch.randn(4, *example))
    assert logits.shape == (4, 10)
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    assert model.training
    state = build().state_dict()
    fresh = MODELS.build(name, **options)
    torch.manual_seed(4)
    other = fresh.build(example, 10).state_dict()
    torch.manual_seed(3)
    same = fresh.build(example, 10).state_dict()
    assert all(torch.equal(same[key], value) for key, value in state.items())
    assert any(not torch.equal(other[key], value) for key, value in state.items())


def test_blocks_that_start_as_identity_pass_their_input_on() -> None:
    model = MODELS.build("resnet18_cifar", width=4, zero_init_residual=True).build((3, 8, 8), 2).eval()
    assert isinstance(model, nn.Sequential)
    x = torch.rand(2, 4, 8, 8)
    first_block = model[3]
    assert torch.equal(first_block(x), x)
    plain = MODELS.build("resnet18_cifar", width=4).build((3, 8, 8), 2).eval()
    assert isinstance(plain, nn.Sequential)
    assert not torch.equal(plain[3](x), x)


def test_zero_init_residual_reaches_torchvisions_resnets() -> None:
    torch_resnet = MODELS.build("torchvision", architecture="resnet18", zero_init_residual=True).build((3, 32, 32), 2)
    assert torch_resnet.get_submodule("layer1.0.bn2").weight.abs().max() == 0


def test_first_weights_of_the_last_layer_may_be_chosen() -> None:
    def build(**options: object) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        return MODELS.build("torchvision", architecture="resnet18", **options).build((3, 32, 32), 1000).state_dict()

    plain, chosen = build(), build(classifier_std=0.01)
    assert [name for name in plain if not torch.equal(plain[name], chosen[name])] == ["fc.weight"]
    assert chosen["fc.weight"].std().item() == pytest.approx(0.01, rel=0.01)


def test_torchvision_names_read_off_its_source_are_those_it_registers() -> None:
    assert architectures() == set(torchvision.models.list_models(module=torchvision.models))


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        ({"name": "mlp", "hidden": [3]}, {"name": "mlp", "hidden": [3]}),
        ({"name": "torchvision"}, {"name": "torchvision"}),
        (
            {"name": "resnet50", "architecture": "resnet18", "zero_init_residual": True},
            {"name": "torchvision", "architecture": "resnet50", "zero_init_residual": True},
        ),
    ],
)
def test_a_torchvision_name_may_stand_for_the_model(given: dict[str, object], resolved: dict[str, object]) -> None:
    before = dict(given)
    assert resolve_model(given) == resolved
    assert given == before


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: resolve_model({"name": "resnet5"}), "unknown model 'resnet5'; did you mean 'resnet50'"),
        (lambda: MODELS.build("torchvision", architecture="restnet18"), "did you mean 'resnet18'"),
        (lambda: MODELS.build("torchvision", architecture="vgg11", zero_init_residual=True), "not 'vgg11'"),
        (lambda: MODELS.build("torchvision", classifier_std=0.0), "classifier_std must be positive or null, not 0.0"),
        (
            lambda: MODELS.build("torchvision", architecture="squeezenet1_1", classifier_std=1.0).build((3, 32, 32), 2),
            "models that end in a linear layer, not 'squeezenet1_1'",
        ),
        (lambda: MODELS.build("torchvision", architecture="alexnet").build((3, 32, 32), 2), "3x32x32"),
        (lambda: MODELS.build("mlp", hidden=[8, 0]), "model.hidden"),
        (lambda: MODELS.build("cnn", width=0), "model.width"),
        (lambda: MODELS.build("cnn", width=12, norm="group"), "multiple of 8"),
        (lambda: MODELS.build("cnn", norm="bach"), "did you mean 'batch'"),
        (lambda: MODELS.build("cnn").build((3, 7, 32), 2), "at least 8x8"),
        (lambda: MODELS.build("resnet18_cifar", width=0), "model.width"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(build: object, says: str) -> None:
    assert callable(build)
    with pytest.raises(ConfigurationError) as error:
        build()
    assert says in str(error.value)
    assert "\n" not in str(error.value)
