"""Muon for hidden matrices and AdamW for all else, as one optimizer.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the length of its steps beside AdamW's:
Liu et al., "Muon is Scalable for LLM Training", 2025, arXiv 2502.16982, section 2.2.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sgp_core.training.optimizers.eager import eager

Groups = list[dict[str, Any]]


class MuonAdamW(torch.optim.Optimizer):
    """Steps on the groups of both optimizers, as their own classes would; parameters are in one of them.

    To whoever asks it is one optimizer: one list of groups, one state, one call of the step hooks. Groups added later
    are AdamW's.

    Args:
        matrices: parameter groups with options of ``torch.optim.Muon``.
        others: parameter groups with options of ``torch.optim.AdamW``.
    """

    element_wise = False

    def __init__(self, matrices: Groups, others: Groups) -> None:
        muon, adamw = eager(MatrixMuon)(matrices), eager(torch.optim.AdamW)(others, fused=True)
        super().__init__([*muon.param_groups, *adamw.param_groups], {})
        self.defaults = adamw.defaults
        self._parts = muon, adamw

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step with both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part, theirs in zip(self._parts, (True, False), strict=True):
            part.param_groups = [group for group in self.param_groups if ("ns_steps" in group) is theirs]
            part.state = self.state
            part.step()
        return loss


_compute_in_bfloat16: Callable[..., float | None] = inspect.unwrap(torch.optim.Muon.step)
"""Without the step hooks, which those of the subclass would call, too."""


class MatrixMuon(torch.optim.Muon):
    """Torch's Muon; on CPUs, it makes matrices orthogonal in their own dtype, since few of them multiply in bfloat16.

    Elsewhere it is torch's own, in bfloat16.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step; momentum and weight decay come in torch's order."""
        if any(p.device.type != "cpu" for group in self.param_groups for p in group["params"]):
            return _compute_in_bfloat16(self, closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._update(matrix, matrix.grad, group)
        return loss

    def _update(self, matrix: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient, memory_format=torch.preserve_format)
        momentum, rate = state["momentum_buffer"], group["lr"]
        momentum.lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
        update = orthogonalise(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
        matrix.mul_(1 - rate * group["weight_decay"])
        matrix.add_(update, alpha=-rate * _SCALES[group["adjust_lr_fn"] or "original"](*matrix.shape))


def orthogonalise(matrix: Tensor, coefficients: Sequence[float], steps: int, eps: float) -> Tensor:
    """Return ``matrix``, ``[m, n]``, with all its singular values near 1.

    Newton-Schulz iteration on ``X = G / ||G||_F``, wide side last: ``X <- a X + (b A + c A A) X`` with ``A = X X^T``
    (Jordan et al. 2024). Five steps of the usual coefficients leave singular values between about 0.7 and 1.2.
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


_SCALES: dict[str, Callable[[int, int], float]] = {
    "original": lambda rows, columns: math.sqrt(max(1.0, rows / columns)),
    "match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
    "spectral_unclamped": lambda rows, columns: math.sqrt(rows / columns),
}
"""What the learning rate of a matrix is multiplied by."""

ADJUSTMENTS = tuple(_SCALES)
