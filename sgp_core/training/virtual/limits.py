"""What virtual workers cannot do. Imports without torch, so that the launcher refuses it before any worker exists."""

from __future__ import annotations

from sgp_core.errors import ConfigurationError

NETWORK_ALONE = (
    "network: how much messages delay a step depends on how long it computes; say so, as with"
    " computation=constant computation.step_ms=50"
)


def check_virtual(*, network: bool, computation: bool) -> None:
    """Refuse choices that virtual workers cannot do with.

    Args:
        network, computation: whether one is chosen for the virtual clock.

    Raises:
        ConfigurationError: with what would be right.
    """
    if network and not computation:
        raise ConfigurationError(NETWORK_ALONE)
