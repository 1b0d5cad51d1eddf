"""Clipping of every virtual worker's gradients to a norm."""

from __future__ import annotations

import torch
from torch import Tensor


def clip_rows_(gradients: Tensor, max_norm: float) -> None:
    """Scale every row to a norm of at most ``max_norm``, as ``torch.nn.utils.clip_grad_norm_`` scales one worker's."""
    norms = torch.nan_to_num(torch.linalg.vector_norm(gradients, dim=1, keepdim=True), nan=0.0, posinf=0.0)
    gradients.mul_(torch.clamp(max_norm / (norms + 1e-6), max=1.0))
