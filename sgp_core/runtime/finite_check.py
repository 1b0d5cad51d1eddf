"""Finds numbers that are not finite before a worker sends them to others, and says where they began."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from sgp_core.distributed.model_shard import local_tensor
from sgp_core.distributed.waits import Waits
from sgp_core.nonfinite import Nonfinite, NotFinite
from sgp_core.runtime.global_collectives import GlobalCollectives
from sgp_core.runtime.optimizers import parameters_of
from sgp_core.tensors.flat_vector import FlatVector

MOST_SKIPS = 20
"""So many steps in a row may be skipped: after that, waiting for better gradients is in vain."""
_ADVICE = "try a smaller learning rate, a warm-up or gradient clipping"


class FiniteCheck:
    """Looks at what is about to leave this worker: the model after the optimizer's step, or gradients before they are
    averaged. Costs one sum over it, which reads it once.

    With :attr:`Nonfinite.skip` it looks at the gradients before every step, too, and all workers agree, by a
    collective of one number, whether to take it. Workers that do not wait for each other skip steps of their own.

    Args:
        model: the user's, for the names of its parameters.
        optimizers: whose gradients are dropped when a step is skipped.
        action: what to do about them; None: nothing, unless :meth:`check` is called.
        rank: this worker's.
        workers: those that agree; None where workers do not wait for each other.
        waits: where this worker waits for others.

    Attributes:
        skipped: how many steps were skipped so far.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        action: Nonfinite | None,
        rank: int,
        workers: GlobalCollectives | None,
        waits: Waits,
    ) -> None:
        self.skipped = 0
        self.skips = action is Nonfinite.skip
        self._model = model
        self._optimizers = optimizers
        self._rank = rank
        self._workers = workers
        self._device = next(model.parameters()).device
        self._waits = waits
        self._in_a_row = 0
        self._sums: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    @torch.no_grad()
    def check(self, vector: FlatVector, step: int, *, sends: bool = True) -> None:
        """Look at a vector that is about to be sent at ``step``, counted from 1, or, without ``sends``, just is there.

        Raises:
            NotFinite: it holds nan or infinity; the message names the tensor.
        """
        if not self._is_finite(vector.tensors):
            raise self._error(self._find(), step, self._rank, sends=sends)

    @torch.no_grad()
    def admit(self, gradients: FlatVector | None, step: int) -> bool:
        """Return whether a step may be taken with these gradients, None for those of the optimizers. Drops them if not.

        Collective, if steps are skipped and workers step together.

        Raises:
            NotFinite: steps are not skipped, or too many were in a row.
        """
        if not self.skips:
            if gradients is not None:
                self.check(gradients, step)
            return True
        if any(getattr(each, "found_inf", None) is not None for each in self._optimizers):
            return True  # a GradScaler lets the optimizer itself leave the step out
        parameters = parameters_of(self._optimizers)
        tensors = gradients.tensors if gradients is not None else _gradients(parameters)
        finite = self._is_finite(tensors)
        rank = self._where(finite)
        if rank is None:
            self._in_a_row = 0
            return True
        self.skipped += 1
        self._in_a_row += 1
        found = "gradients are not finite" if finite else self._find()
        if self._in_a_row == MOST_SKIPS:
            raise self._error(found, step, rank, f", and {MOST_SKIPS - 1} steps before it were skipped")
        if not finite:
            logging.getLogger(__name__).warning("step %d is skipped: %s on rank %d", step, found, rank)
        for parameter in (*parameters, *self._model.parameters()):
            parameter.grad = None
        return False

    def _where(self, finite: bool) -> int | None:
        """Return a rank whose gradients are not finite, None if there is none."""
        found = -1 if finite else self._rank
        if self._workers is not None:
            with self._waits.inside_step():
                found = int(self._workers.maximum(torch.tensor([float(found)], device=self._device)))
        return None if found < 0 else found

    def _is_finite(self, tensors: Iterable[Tensor]) -> bool:
        """Whether all elements are finite. A sum that is not may have overflowed, so then each element is looked at."""
        return all(math.isfinite(abs(self._sum(tensor).item())) or _all_finite(tensor) for tensor in tensors)

    def _sum(self, tensor: Tensor) -> Tensor:
        dtype = torch.float32 if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.dtype
        kind = (dtype, tensor.device)
        if kind not in self._sums:
            self._sums[kind] = torch.zeros((), dtype=dtype, device=tensor.device)
        return torch.sum(tensor, tuple(range(tensor.dim())), dtype=dtype, out=self._sums[kind])

    def _find(self) -> str:
        """Return what is not finite, in words. Backward goes from the last layer to the first, so it began last."""
        named = [(name, local_tensor(each), each.grad) for name, each in self._model.named_parameters()]
        for name, _, gradient in reversed(named):
            if gradient is not None and (words := _describe(local_tensor(gradient))):
                return f"gradient of {name} is {words}"
        for name, parameter, _ in named:
            if words := _describe(parameter):
                return f"parameter {name} is {words}"
        return "the model is not finite"

    def _error(self, found: str, step: int, rank: int, more: str = "", *, sends: bool = True) -> NotFinite:
        apart = "; no other worker got anything of it" if sends else ""
        message = f"{found} at step {step} on rank {rank}{more}{apart}: {_ADVICE}"
        return NotFinite(message, rank=rank, step=step, tensor=found.partition(" is ")[0])


def _gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    gradients = (local_tensor(each.grad) for each in parameters if each.grad is not None)
    return [each.coalesce().values() if each.is_sparse else each for each in gradients]


def _all_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _describe(tensor: Tensor) -> str:
    """Return ``nan (2 of 8 elements)`` or the like, or nothing if all is finite."""
    values = tensor.coalesce().values() if tensor.is_sparse else tensor
    wrong = int((~torch.isfinite(values)).sum())
    if not wrong:
        return ""
    kind = "nan" if bool(torch.isnan(values).any()) else "inf"
    return f"{kind} ({wrong} of {values.numel()} elements)"
