"""What virtual workers cannot do. Imports without torch, so that the launcher refuses it before any worker exists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sgp_core.errors import ConfigurationError

_WHOLE_TENSORS = ("Adafactor", "LBFGS", "Muon")
NETWORK_ALONE = (
    "network: how much messages delay a step depends on how long it computes; say so, as with"
    " computation=constant computation.step_ms=50"
)


def check_element_wise(optimizer: str) -> None:
    """Refuse an optimizer that looks at whole tensors, by the name of its class: virtual workers share one.

    Raises:
        ConfigurationError: it does.
    """
    if optimizer in _WHOLE_TENSORS:
        raise ConfigurationError(
            f"{optimizer} looks at whole matrices, and virtual workers share an optimizer that must look at every"
            " element by itself; use optimizer=adamw, or processes"
        )


def check_virtual(optimizer: Mapping[str, Any], *, network: bool, computation: bool) -> None:
    """Refuse choices that virtual workers cannot do with.

    Args:
        optimizer: as the experiment has it.
        network, computation: whether one is chosen for the virtual clock.

    Raises:
        ConfigurationError: with what would be right.
    """
    check_element_wise(str(optimizer.get("class_name") or ""))
    if network and not computation:
        raise ConfigurationError(NETWORK_ALONE)
