"""Any image classifier that torchvision has, by its name there."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgp_core.errors import ConfigurationError, did_you_mean
from sgp_core.registry import LATER, VALUES
from sgp_core.tasks.images.models.base import ImageModel
from sgp_core.tasks.models import MODELS
from sgp_core.validation import require

if TYPE_CHECKING:
    from torch import nn

_RESIDUAL = ("resnet", "resnext", "wide_resnet")
_REGISTERED = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


@MODELS.register("torchvision")
@dataclass(frozen=True)
class Torchvision(ImageModel):
    """A classifier from torchvision, untrained: ``model=torchvision model.name=resnet50``."""

    architecture: str = field(default="resnet18", metadata={VALUES: lambda: _names()})
    """Torchvision's name of the model; ``model.name=...`` may be used instead."""
    zero_init_residual: bool = False
    """Start with every residual block as the identity (Goyal et al. 2017); ResNet and its kin only."""
    classifier_std: float | None = field(default=None, metadata=LATER)
    """Standard deviation of the last layer's first weights (0.01 in Goyal et al. 2017); null: torchvision's own."""

    def __post_init__(self) -> None:
        if self.architecture not in architectures():
            hint = did_you_mean(self.architecture, architectures())
            raise ConfigurationError(f"torchvision has no classifier '{self.architecture}'{hint}")
        if self.zero_init_residual and not self.architecture.startswith(_RESIDUAL):
            raise ConfigurationError(f"model.zero_init_residual is for residual networks, not '{self.architecture}'")
        usable = self.classifier_std is None or self.classifier_std > 0
        require(usable, "model.classifier_std", "positive or null", self.classifier_std)

    @classmethod
    def resolve_choice(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Accept ``model.name=resnet50`` for ``model.architecture=resnet50``; see :func:`resolve_model`."""
        return resolve_model(values)

    def find_pretrained(self, name: str) -> Path | None:
        """Return the file in torch hub's cache that holds torchvision's weights of that name, such as IMAGENET1K_V1.

        Args:
            name: torchvision's, or ``pretrained`` for those that it takes by default.

        Raises:
            ConfigurationError: there is no such file; the message says how to get it.
        """
        import torch
        from torchvision.models import get_model_weights

        known = {entry.name: entry for entry in get_model_weights(self.architecture)}
        if not known:
            raise ConfigurationError(f"model.weights={name}: torchvision has no weights for {self.architecture}")
        entry = get_model_weights(self.architecture).DEFAULT if name == "pretrained" else known.get(name)
        if entry is None:
            return None
        file = Path(torch.hub.get_dir(), "checkpoints", entry.url.rpartition("/")[2])
        if not file.is_file():
            raise ConfigurationError(
                f"model.weights={name}: {file} is not there, and nothing is downloaded unasked; to download it: "
                f"python -c \"import torch; torch.hub.load_state_dict_from_url('{entry.url}')\""
            )
        return file

    def build(self, example: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return the network for inputs ``[B, *example]``; its first convolution gets as many channels as they have.

        Raises:
            ConfigurationError: the network cannot take inputs of that size.
        """
        import torch
        import torchvision

        options: dict[str, Any] = {"num_classes": num_classes}
        if self.zero_init_residual:
            options["zero_init_residual"] = True
        if self.architecture.startswith("vit_"):
            options["image_size"] = example[1]
        if self.architecture in ("googlenet", "inception_v3"):
            options |= {"aux_logits": False, "init_weights": True}
        shape = "x".join(map(str, example))
        try:
            model = torchvision.models.get_model(self.architecture, weights=None, **options)
            _fit_channels(model, example[0])
            model.eval()
            with torch.no_grad():
                model(torch.zeros(1, *example))
        except (RuntimeError, ValueError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0].removesuffix(".")
            raise ConfigurationError(f"{self.architecture} cannot take {shape} inputs: {reason}") from error
        if self.classifier_std is not None:
            _init_classifier(model, self.classifier_std, self.architecture)
        return model.train()


@lru_cache(maxsize=1)
def architectures() -> frozenset[str]:
    """Return the names of torchvision's classifiers, read off its source: importing it takes seconds.

    Raises:
        ConfigurationError: torchvision is not installed.
    """
    package = importlib.util.find_spec("torchvision")
    if package is None or not package.submodule_search_locations:
        raise ConfigurationError("model=torchvision needs torchvision; to get it, run: pip install torchvision")
    sources = Path(package.submodule_search_locations[0], "models").glob("*.py")
    return frozenset(name for source in sources for name in _REGISTERED.findall(source.read_text(encoding="utf-8")))


def _names() -> list[str]:
    return sorted(architectures())


def resolve_model(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{"name": ..., options...}`` with a name the registry knows.

    A torchvision name in the place of the name, as in ``model=torchvision model.name=resnet50``, becomes
    ``{"name": "torchvision", "architecture": "resnet50", ...}``. Imports neither torch nor torchvision.

    Raises:
        ConfigurationError: no model here or in torchvision has that name; the nearest is suggested.
    """
    name = options.get("name")
    if name in MODELS.names():
        return dict(options)
    if name not in architectures():
        known = [*MODELS.names(), *architectures()]
        raise ConfigurationError(f"unknown model '{name}'{did_you_mean(str(name), known)}")
    return {**options, "name": MODELS.name_of(Torchvision), "architecture": name}


def _fit_channels(model: nn.Module, channels: int) -> None:
    """Give the first convolution ``channels`` input channels if it has another number."""
    from torch import nn

    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d):
                if child.in_channels != channels:
                    setattr(parent, name, _with_channels(child, channels))
                return


def _with_channels(convolution: nn.Conv2d, channels: int) -> nn.Conv2d:
    """Return a new convolution like ``convolution`` for another number of input channels."""
    from torch import nn

    return nn.Conv2d(
        channels,
        convolution.out_channels,
        kernel_size=convolution.kernel_size,  # type: ignore[arg-type]
        stride=convolution.stride,  # type: ignore[arg-type]
        padding=convolution.padding,  # type: ignore[arg-type]
        bias=convolution.bias is not None,
    )


def _init_classifier(model: nn.Module, std: float, architecture: str) -> None:
    """Draw the weights of the last layer from a normal distribution."""
    from torch import nn

    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ConfigurationError(f"model.classifier_std is for models that end in a linear layer, not '{architecture}'")
    nn.init.normal_(layers[-1].weight, 0.0, std)
