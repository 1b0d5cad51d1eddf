"""One file, one screen, per published algorithm."""

from sgp_core.algorithms.base import ALGORITHMS, OUTERS, Algorithm, OneSided, Outer, Traits
from sgp_core.algorithms.worker import Network, OneSidedNetwork, Worker
from sgp_core.errors import ConfigurationError

__all__ = [
    "ALGORITHMS",
    "OUTERS",
    "Algorithm",
    "Network",
    "OneSided",
    "OneSidedNetwork",
    "Outer",
    "Traits",
    "Worker",
    "build_algorithm",
    "build_outer",
]


def build_algorithm(name: str, **options: object) -> Algorithm:
    """Return the algorithm called ``name``, such as ``build_algorithm("sgp")``.

    Raises:
        ConfigurationError: unknown name or option, or a value out of range.
    """
    if name in OUTERS.names():
        raise ConfigurationError(
            f"'{name}' is an outer, which wraps an algorithm: build_outer('{name}', build_algorithm('sgp'))"
        )
    return ALGORITHMS.build(name, **options)


def build_outer(name: str, base: Algorithm, **options: object) -> Algorithm:
    """Return ``base`` wrapped in the outer called ``name``; ``"none"`` returns ``base`` itself.

    Raises:
        ConfigurationError: unknown name or option, or a value out of range.
    """
    if name in ALGORITHMS.names():
        raise ConfigurationError(f"'{name}' is an algorithm, not an outer: build_algorithm('{name}')")
    return base if name == "none" else OUTERS.build(name, base=base, **options)
