"""How often workers gossip, and what else they do to agree: one file per pace."""

from sgp_core.pacing.base import PACES, Numbers, Pace, Plan

__all__ = ["PACES", "Numbers", "Pace", "Plan", "build_pace"]


def build_pace(name: str, **options: object) -> Pace:
    """Return the pace called ``name``, such as ``build_pace("every", steps=4)``.

    Raises:
        ConfigurationError: unknown name or option, or a value out of range.
    """
    return PACES.build(name, **options)
