"""The arithmetic of a pair that averages, shared by the runtimes so that both round alike."""

from __future__ import annotations

from sgp_core.tensors.flat_vector import Flat


def update_and_average_(x: Flat, before: Flat, model: Flat, partner: Flat | None, *, untouched: bool) -> None:
    """Add ``x - before`` to ``model``, set ``model`` and ``partner`` to their average, and ``x`` to ``model``.

    Args:
        x: what the optimizer made of ``before``.
        before: the copy of the model that the gradient was taken at.
        model: this worker's open model.
        partner: the other one's, None without a partner.
        untouched: whether ``model`` still is ``before``; it then becomes ``x`` without any rounding.
    """
    update_(x, before, model, untouched=untouched)
    if partner is not None:
        average_(model, partner)
    if partner is not None or not untouched:
        x.copy_(model)


def update_(x: Flat, before: Flat, model: Flat, *, untouched: bool) -> None:
    """Add ``x - before`` to ``model``; ``x`` is left undefined. Arguments as of :func:`update_and_average_`."""
    if untouched:
        model.copy_(x)
    else:
        model.add_(x.add_(before, -1.0))


def average_(model: Flat, partner: Flat) -> None:
    """Set both to their average; ``model`` is the acting worker's."""
    for mine, theirs in zip(model.tensors, partner.tensors, strict=True):
        mine.lerp_(theirs, 0.5)
    partner.copy_(model)
