"""The arithmetic of an exchange, shared by all runtimes so that all round alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from sgp_core.tensors.flat_vector import FlatVector, Scalar, Tensor, as_operand

GRAIN = 64
"""Vectors are cut at multiples of this many elements. In half precision kernels round the last few elements of a
tensor differently, so that results would otherwise depend on the cuts."""


def mix_(x: Tensor, own_weight: Scalar, received: Tensor, weight: Scalar) -> Tensor:
    """Set ``x`` to ``own_weight * x + weight * received`` in place; a single pass where the weights are a convex pair.

    Args:
        x: any shape.
        own_weight: a number, or one per virtual worker (``[n, 1]``).
        received: like ``x``.
        weight: like ``own_weight``.
    """
    if isinstance(own_weight, Tensor) or isinstance(weight, Tensor):
        return x.mul_(_like(own_weight, x)).addcmul_(received, _like(weight, x))
    if own_weight + weight == 1.0:
        return x.lerp_(received, weight)
    if own_weight != 1.0:
        x.mul_(as_operand(own_weight, x))
    return x.add_(received, alpha=weight)


def mix_all_(x: Tensor, own_weight: float, received: Iterable[Tensor], weights: Iterable[float]) -> None:
    """Set ``x`` to ``own_weight * x + sum_j weights_j * received_j`` in place, one after another.

    Every transport adds in this order, so that all round alike.
    """
    kept, alone = own_weight, True
    for theirs, weight in zip(received, weights, strict=False):
        mix_(x, kept, theirs, weight)
        kept, alone = 1.0, False
    if alone and own_weight != 1.0:
        x.mul_(as_operand(own_weight, x))


def difference_(
    into: Tensor, x: Tensor, own_weight: float, received: Sequence[Tensor], weights: Sequence[float]
) -> None:
    """Set ``into`` to what ``own_weight * x + sum_j weights_j * received_j`` has beyond ``x``, over a factor.

    It is the factor that :func:`difference_scale` returns. Every transport computes in this order, so that all round
    alike.

    Args:
        into: may be the first of ``received``.
        x: like ``into``.
    """
    if not received:
        into.copy_(x)
        return
    first, *others = received
    torch.add(first, x, alpha=(own_weight - 1.0) / weights[0], out=into)
    for theirs, weight in zip(others, weights[1:], strict=True):
        into.add_(theirs, alpha=weight / weights[0])


def difference_scale(own_weight: float, weights: Sequence[float]) -> float:
    """Return the factor by which the result of :func:`difference_` is to be multiplied."""
    return weights[0] if weights else own_weight - 1.0


def weighted_sum(weights: Iterable[float], values: Iterable[float]) -> float:
    """Return ``sum_j weights_j * values_j``, added in that order by every runtime, so that all round alike."""
    total = 0.0
    for weight, value in zip(weights, values, strict=True):
        total += weight * value
    return total


def _like(weight: Scalar, x: Tensor) -> Tensor:
    return weight.to(x.dtype) if isinstance(weight, Tensor) else x.new_full((), weight)


def update_and_average_(
    x: FlatVector, before: FlatVector, model: FlatVector, partner: FlatVector | None, *, untouched: bool
) -> None:
    """Add ``x - before`` to ``model``, set ``model`` and ``partner`` to their average, and ``x`` to ``model``.

    Args:
        x: the result of the optimizer's step from ``before``.
        before: the copy of the model at which the gradient was taken.
        model: this worker's open model.
        partner: the open model of the partner, None without one.
        untouched: whether ``model`` is still equal to ``before``; it then becomes ``x`` without any rounding.
    """
    apply_update_(x, before, model, untouched=untouched)
    if partner is not None:
        average_pair_(model, partner)
    if partner is not None or not untouched:
        x.copy_(model)


def apply_update_(x: FlatVector, before: FlatVector, model: FlatVector, *, untouched: bool) -> None:
    """Add ``x - before`` to ``model``; ``x`` is left undefined. Arguments as of :func:`update_and_average_`."""
    if untouched:
        model.copy_(x)
    else:
        model.add_(x.add_(before, -1.0))


def average_pair_(model: FlatVector, partner: FlatVector) -> None:
    """Set both models to their average; ``model`` is that of the worker that acts."""
    for mine, theirs in zip(model.tensors, partner.tensors, strict=True):
        mine.lerp_(theirs, 0.5)
    partner.copy_(model)
