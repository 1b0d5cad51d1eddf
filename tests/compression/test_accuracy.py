"""Training with each codec ends as well as without."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import sgp_core
from sgp_core.compression import COMPRESSIONS

WORKERS, BATCH, STEPS = 4, 32, 120
SHAPES = [(32, 64), (32,), (10, 32), (10,)]
SIZES = [torch.Size(shape).numel() for shape in SHAPES]


@cache
def _digits():
    images, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images, labels = images[order].float() / 16, labels[order]
    return (images[:1437], labels[:1437]), (images[1437:], labels[1437:])


def _logits(models, inputs):
    """Models ``[n, d]``, inputs ``[n, b, 64]``."""
    w1, b1, w2, b2 = (part.view(len(models), *s) for part, s in zip(models.split(SIZES, 1), SHAPES, strict=True))
    hidden = torch.relu(torch.baddbmm(b1[:, None], inputs, w1.mT))
    return torch.baddbmm(b2[:, None], hidden, w2.mT)


def _gradient(z, step):
    images, labels = _digits()[0]
    drawn = torch.randint(len(labels), (WORKERS, BATCH), generator=torch.Generator().manual_seed(step))
    leaf = z.clone().requires_grad_()
    loss = nn.functional.cross_entropy(_logits(leaf, images[drawn]).flatten(0, 1), labels[drawn].flatten())
    return WORKERS * torch.autograd.grad(loss, leaf)[0]


@cache
def _accuracy(name):
    generator = torch.Generator().manual_seed(1)
    start = torch.cat([torch.randn(s, generator=generator).flatten() * (s[-1] ** -0.5) for s in SHAPES])
    run = sgp_core.simulate(
        sgp_core.build_algorithm("sgp"),
        sgp_core.build_topology("one_peer_exponential", world_size=WORKERS),
        start.expand(WORKERS, -1),
        _gradient,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        steps=STEPS,
        record_every=STEPS,
        compression=sgp_core.build_compression(name),
        shapes=SHAPES,
    )
    images, labels = _digits()[1]
    return float((_logits(run.mean[-1:], images[None])[0].argmax(1) == labels).float().mean())


@pytest.mark.parametrize("name", COMPRESSIONS.names())
def test_digits_are_read_within_a_point_of_the_uncompressed(name):
    assert _accuracy("none") > 0.95
    assert _accuracy(name) >= _accuracy("none") - 0.01
