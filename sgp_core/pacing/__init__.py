"""How often workers gossip: one file per pace."""

from sgp_core.pacing.base import PACES, Numbers, Pace

__all__ = ["PACES", "Numbers", "Pace", "build_pace"]


def build_pace(name: str, **options: object) -> Pace:
    """Return the pace called ``name``, such as ``build_pace("every", steps=4)``.

    Raises:
        ConfigurationError: unknown name or option, or a value out of range.
    """
    return PACES.build(name, **options)
