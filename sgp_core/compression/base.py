"""What a codec is: a way to send an approximation of a vector in fewer bytes.

A codec never sees a model. It is given what the receiver's copy of a model lacks, ``x - r``, and both ends add what
it decodes to, so that what it leaves out is offered again the next time (Koloskova, Stich, Jaggi, "Decentralized
Stochastic Optimization and Gossip Algorithms with Compressed Communication", ICML 2019). Any codec that brings the
copy nearer will do.

This module and the codecs import without torch: the launcher reads their options before any worker exists.
"""

from __future__ import annotations

import hashlib
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from sgp_core.errors import ConfigurationError
from sgp_core.registry import Registry
from sgp_core.tensors.layout import Layout
from sgp_core.validation import require

if TYPE_CHECKING:
    from torch import Generator, Tensor

COMPRESSIONS: Registry[Codec] = Registry("compression", "sgp_core.compression")

ITEM_BYTES = {"uint8": 1, "int8": 1, "int16": 2, "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
_STRETCH = 1 << 16
"""Elements coded together: they stay in the processor's cache, and an index into them takes 2 bytes."""
_ALIGNMENT = 8


@dataclass(frozen=True)
class Piece:
    """What is coded at once: ``numel`` elements of one tensor of the vector, from ``start``; rows and columns if any.

    Attributes:
        index: number within the vector.
        tensor: number of the tensor.
    """

    index: int
    tensor: int
    start: int
    numel: int
    dtype: str
    matrix: tuple[int, int] | None = None


@dataclass(frozen=True)
class Coding:
    """One piece of one message: which it is, and what a codec may use for it.

    Attributes:
        spare: memory like the piece's vector; not kept.
        memory: what the sender remembers of the piece, of the shape that :meth:`Codec.memory` asked for; None where
            it asked for nothing, and when decoding.
    """

    piece: Piece
    step: int
    sender: int
    receiver: int
    spare: Tensor
    memory: Tensor | None = None

    def generator(self, seed: int) -> Generator:
        """Return a generator that both ends can make, unlike any other piece's of any other message."""
        import torch

        numbers = struct.pack("<5q", seed, self.step, self.sender, self.receiver, self.piece.index)
        digest = hashlib.blake2b(numbers, digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


class Gossiping(Protocol):
    """What a codec must know of an algorithm."""

    @property
    def traits(self) -> Any:
        """Its :class:`sgp_core.algorithms.Traits`; rules may hold codecs, and so lie above them."""


@dataclass(frozen=True)
class Codec(ABC):
    """A codec; fields are its options. It has no state: what an edge remembers is handed to it.

    Stable extension point.
    """

    keeps_shapes: ClassVar[bool] = False
    """Whether parameters are coded one by one, as the matrices they are, rather than in stretches."""

    gamma: float = 1.0

    def __post_init__(self) -> None:
        self.require(0 < self.gamma <= 1, "gamma", "above 0 and at most 1", self.gamma)

    def require(self, holds: bool, option: str, wanted: str, value: object) -> None:
        """Raise ConfigurationError unless ``holds``."""
        require(holds, f"compression '{COMPRESSIONS.name_of(type(self))}': {option}", wanted, value)

    def check(self, algorithm: Gossiping) -> None:
        """Refuse an algorithm whose messages cannot be compressed.

        Raises:
            ConfigurationError: with the reason and what would be right.
        """
        name = COMPRESSIONS.name_of(type(self))
        if not algorithm.traits.gossips:
            raise ConfigurationError(
                f"compression '{name}' acts on messages that all workers exchange after a step, and this algorithm has"
                " none; use algorithm=sgp, osgp or dpsgd, or compression=none"
            )
        if algorithm.traits.one_exact_round:
            raise ConfigurationError(
                f"compression '{name}' mixes approximately, and what this algorithm remembers presumes exact rounds;"
                " use algorithm=sgp, qg_dsgdm or gossip_pga, or compression=none"
            )

    # -- sizes -------------------------------------------------------------------------------------------------------
    @abstractmethod
    def sections(self, piece: Piece) -> Sequence[tuple[str, int]]:
        """Return the arrays a piece is sent as: dtype name and number of elements, widest elements first."""

    def pieces(self, layout: Layout) -> list[Piece]:
        """Return the pieces a vector is coded in."""
        found: list[Piece] = []
        for number, memory in enumerate(layout):
            if self.keeps_shapes:
                for offset, shape in memory.parameters:
                    rows = shape[0] if len(shape) > 1 else 0
                    matrix = (rows, prod(shape[1:])) if rows else None
                    found.append(Piece(len(found), number, offset, prod(shape), memory.dtype, matrix))
            else:
                for start in range(0, memory.numel, _STRETCH):
                    size = min(_STRETCH, memory.numel - start)
                    found.append(Piece(len(found), number, start, size, memory.dtype))
        return found

    def piece_bytes(self, piece: Piece) -> int:
        """Return the bytes of one piece on the wire, rounded up to a multiple of 8."""
        size = sum(ITEM_BYTES[dtype] * count for dtype, count in self.sections(piece))
        return -(-size // _ALIGNMENT) * _ALIGNMENT

    def nbytes(self, layout: Layout) -> int:
        """Return the bytes of one message on the wire, beside the 8 of a PushSum weight."""
        return sum(self.piece_bytes(piece) for piece in self.pieces(layout))

    # -- work --------------------------------------------------------------------------------------------------------
    def memory(self, piece: Piece) -> tuple[int, ...] | None:
        """Return the shape of what a sender remembers of a piece from message to message; None: nothing."""
        return None

    @abstractmethod
    def encode(self, vector: Tensor, message: Sequence[Tensor], coding: Coding) -> None:
        """Write ``vector``, ``[piece.numel]``, which may be overwritten, to the arrays of :meth:`sections`."""

    @abstractmethod
    def decode(self, message: Sequence[Tensor], out: Tensor, coding: Coding) -> None:
        """Set ``out``, ``[piece.numel]``, to what the message says: the same bits on both ends of the edge."""
