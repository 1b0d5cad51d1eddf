"""A plug-in in float64: a perceptron, whose first layer casts its images, and a loss that does not cast back."""

from dataclasses import dataclass
from math import prod

from sgp_core.tasks.images.models import ImageModel
from sgp_core.tasks.losses import LOSSES, Loss
from sgp_core.tasks.models import MODELS


@MODELS.register("double_mlp")
@dataclass(frozen=True)
class DoubleMlp(ImageModel):
    """With BatchNorm and dropout if there is any dropout."""

    dropout: float = 0.0

    def build(self, example, num_classes):
        from torch import nn

        class Cast(nn.Module):
            def forward(self, inputs):
                return inputs.double()

        layers = [nn.Linear(prod(example), 16), nn.Tanh(), nn.Linear(16, num_classes)]
        middle = [nn.BatchNorm1d(16), nn.Dropout(self.dropout)] if self.dropout else []
        return nn.Sequential(nn.Flatten(), Cast(), layers[0], *middle, *layers[1:]).double()


@LOSSES.register("double_loss")
@dataclass(frozen=True)
class DoubleLoss(Loss):
    """Cross entropy."""

    task = "images"

    def __call__(self, outputs, targets):
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs, targets)
