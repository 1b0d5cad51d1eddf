"""The task: handwritten digits, dealt out by Dirichlet proportions, and all workers' models in one batched call."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import cross_entropy

from sgp_core.tasks.images.datasets.digits import Digits
from sgp_core.tasks.images.models.mlp import Mlp
from sgp_core.tasks.partitions import PARTITIONS, Assigned

HIDDEN = [64]
HELD_OUT = 0.2
"""Part of the training examples that learning rates are chosen on; the data set's own validation split is the test."""
_DRAWS, _START = 1, 2
"""Which random numbers of a seed."""


@dataclass(frozen=True)
class Split:
    """Inputs ``[N, 1, 8, 8]`` and their classes ``[N]``."""

    inputs: Tensor
    targets: Tensor


@lru_cache(maxsize=1)
def splits() -> dict[str, Split]:
    """Return ``train`` (1,149 examples), ``validation`` (288) and ``test`` (360): always the same."""
    data = Digits().load()
    inputs, targets = data.train.batch(torch.arange(len(data.train)))
    held = round(HELD_OUT * len(targets))  # the data set is in random order
    test = data.validation.batch(torch.arange(len(data.validation)))
    return {
        "train": Split(inputs[held:], targets[held:]),
        "validation": Split(inputs[:held], targets[:held]),
        "test": Split(*test),
    }


@lru_cache(maxsize=1)
def _model() -> nn.Module:
    return Mlp(hidden=HIDDEN).build((1, 8, 8), 10)


class Workers:
    """``n`` virtual workers, each with a share of the training examples.

    Args:
        n: workers.
        alpha: of the Dirichlet distribution of their classes.
        batch_size: examples per worker and step.
        steps: that will be asked for.
        seed: of the shares, the order of examples and the first model.
    """

    def __init__(self, n: int, alpha: float, batch_size: int, steps: int, seed: int) -> None:
        self._train = splits()["train"]
        partition = PARTITIONS.build("dirichlet", alpha=alpha)
        assert isinstance(partition, Assigned)
        shares = partition.assign(self._train.targets.numpy(), n, seed)
        rng = np.random.default_rng([_DRAWS, seed])
        rows = [_shuffled(share, batch_size * steps, rng) for share in shares]
        self._batches = torch.from_numpy(np.stack(rows)).view(n, steps, batch_size)
        _model()  # drawn before vmap, which lets nothing be drawn
        self._step = vmap(grad_and_value(_loss))
        self.n, self.seed = n, seed
        self.loss = float("nan")
        """Of the latest step, the mean over workers."""

    def initial(self) -> Tensor:
        """Return the same fresh model for every worker, ``[n, d]``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + _START)
            model = Mlp(hidden=HIDDEN).build((1, 8, 8), 10)
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).repeat(self.n, 1)

    def gradient(self, z: Tensor, step: int) -> Tensor:
        """Return each worker's gradient of the mean loss of its batch, ``[n, d]``."""
        batch = self._batches[:, step]
        gradients, losses = self._step(z, self._train.inputs[batch], self._train.targets[batch])
        self.loss = float(losses.mean())
        return gradients


def accuracies(models: Tensor, split: str) -> Tensor:
    """Return the accuracy of each of ``models``, ``[m, d]``, on a split: ``[m]``. Numbers that are none are wrong."""
    found = splits()[split]
    logits = vmap(_logits, in_dims=(0, None))(models, found.inputs)
    right = (logits.argmax(-1) == found.targets) & logits.isfinite().all(-1)
    return right.double().mean(1)


def _logits(z: Tensor, inputs: Tensor) -> Tensor:
    model, begin, named = _model(), 0, {}
    for name, parameter in model.named_parameters():
        named[name] = z[begin : begin + parameter.numel()].view(parameter.shape)
        begin += parameter.numel()
    return functional_call(model, named, (inputs,))


def _loss(z: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(_logits(z, inputs), targets)


def _shuffled(share: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``count`` examples: passes over the share, each in another order."""
    passes = -(-count // len(share))
    return np.concatenate([rng.permutation(share) for _ in range(passes)])[:count]
