"""Numbers of virtual workers that are not finite, found before they reach others, and whose they are."""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor

from sgp_core.distributed.waits import Waits
from sgp_core.nonfinite import Nonfinite, NotFinite
from sgp_core.runtime.finite_check import MOST_SKIPS, FiniteCheck
from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.training.virtual.models import VirtualModels

_ROWS = 64
"""Rows that are looked at, element by element, at a time."""


class VirtualFiniteCheck:
    """Does for all rows what :class:`FiniteCheck` does for one worker.

    Attributes:
        skipped: how many steps were skipped so far.
    """

    def __init__(self, models: VirtualModels, action: Nonfinite | None, waits: Waits) -> None:
        self.skipped = 0
        self.skips = action is Nonfinite.skip
        self._models = models
        self._waits = waits
        self._in_a_row = 0

    def check_models(self, step: int, *, sends: bool = True) -> None:
        """Look at all models, which are about to be sent at ``step``, or, without ``sends``, just are there.

        Raises:
            NotFinite: one holds nan or infinity; the message names its rank and the tensor.
        """
        if (row := find_not_finite(self._models.z)) is not None:
            self._look(row, self._models.z[row], step, sends=sends)

    def check_row(self, row: int, step: int) -> None:
        """Look at one model, which is about to be sent.

        Raises:
            NotFinite: it is not finite.
        """
        if find_not_finite(self._models.z[row : row + 1]) is not None:
            self._look(row, self._models.z[row], step)

    def admit(self, step: int, gradients: Tensor | None = None, first: int = 0) -> bool:
        """Return whether a step may be taken with the gradients of all workers.

        Args:
            step: counted from 1.
            gradients: None: of all; or of some, of which ``first`` is the first row.

        Raises:
            NotFinite: steps are not skipped, or too many were in a row.
        """
        row = find_not_finite(self._models.gradients if gradients is None else gradients)
        if row is None:
            self._in_a_row = 0
            return True
        row += first
        try:
            self._look(row, self._models.gradients[row], step)
        except NotFinite as error:
            if not self.skips:
                raise
            self.skipped += 1
            self._in_a_row += 1
            if self._in_a_row == MOST_SKIPS:
                message = f"{error}; {MOST_SKIPS - 1} steps before it were skipped"
                raise NotFinite(message, rank=error.rank, step=step, tensor=error.tensor) from None
            rank = row * self._models.node_size
            logging.getLogger(__name__).warning(
                "step %d is skipped: %s is not finite on rank %d", step, error.tensor, rank
            )
        return False

    def _look(self, row: int, vector: Tensor, step: int, *, sends: bool = True) -> None:
        rank = row * self._models.node_size
        with self._models.each([rank]) as turns:
            next(turns)
            check = FiniteCheck(self._models.model, [], None, rank, None, self._waits)
            check.check(FlatVector([vector]), step, sends=sends)


def find_not_finite(rows: Tensor) -> int | None:
    """Return the first of ``rows``, ``[n, d]``, that holds nan or infinity."""
    if math.isfinite(float(rows.sum())):
        return None
    for begin in range(0, len(rows), _ROWS):
        finite = torch.isfinite(rows[begin : begin + _ROWS]).all(1)
        if not bool(finite.all()):
            return begin + int((~finite).nonzero()[0])
    return None
