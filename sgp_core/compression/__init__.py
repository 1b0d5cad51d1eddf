"""Codecs for what travels between gossiping workers: one file per codec."""

from sgp_core.compression.base import COMPRESSIONS, Codec, Coding, Piece

__all__ = ["COMPRESSIONS", "Codec", "Coding", "Piece", "build_compression"]


def build_compression(name: str, **options: object) -> Codec | None:
    """Return the codec called ``name``, such as ``build_compression("int8")``; ``"none"`` is None.

    Raises:
        ConfigurationError: unknown name or option, or a value out of range.
    """
    return None if name == "none" else COMPRESSIONS.build(name, **options)
