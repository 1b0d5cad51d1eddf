"""Clipping of gradients to a norm, in a way that leaves trace of where a number that is not finite began."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def clip_grad_norm_(parameters: Sequence[Tensor], max_norm: float) -> Tensor:
    """Scale gradients as ``torch.nn.utils.clip_grad_norm_`` does, and return the norm before."""
    total = torch.nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
    scale_gradients_(parameters, max_norm, total)
    return total


def scale_gradients_(parameters: Sequence[Tensor], max_norm: float, total: Tensor) -> None:
    """Scale gradients from a norm of ``total`` to at most ``max_norm``; leave them as they are if ``total`` is nan or
    infinite, since scaling would spread that to all of them."""
    known = torch.nan_to_num(total, nan=0.0, posinf=0.0)
    torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, known)
