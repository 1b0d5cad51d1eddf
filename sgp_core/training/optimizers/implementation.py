"""Which of torch's implementations of a step computes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sgp_core.errors import ConfigurationError
from sgp_core.registry import LATER
from sgp_core.training.optimizers.base import OptimizerOptions


@dataclass(frozen=True)
class TorchImplementation(OptimizerOptions):
    """An optimizer of torch with fused kernels, kernels over lists of tensors, and a loop over parameters.

    They round differently, so the choice is part of the experiment.
    """

    fused: bool | None = field(default=None, kw_only=True, metadata=LATER)
    """One kernel for the whole step; null: unless ``foreach`` is true. false: torch chooses among the others."""
    foreach: bool | None = field(default=None, kw_only=True, metadata=LATER)
    """Kernels over lists of tensors, which take memory for a copy of the model; null: torch decides."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fused and self.foreach:
            raise ConfigurationError(
                "optimizer.fused and optimizer.foreach are two ways to compute a step; only one of them can be true"
            )

    def implementation(self) -> dict[str, Any]:
        """Return the arguments ``fused`` and ``foreach`` of torch's constructor."""
        fused = not self.foreach if self.fused is None else self.fused
        return {"fused": True} if fused else {"fused": None if self.foreach is None else False, "foreach": self.foreach}
