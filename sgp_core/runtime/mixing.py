"""The arithmetic of one exchange, shared by the runtimes so that both round alike."""

from __future__ import annotations

from sgp_core.flat import Scalar, Tensor, as_operand


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


def _like(weight: Scalar, x: Tensor) -> Tensor:
    return weight.to(x.dtype) if isinstance(weight, Tensor) else x.new_full((), weight)
