"""The vectors of peers, from when they begin to arrive until they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from sgp_core.elastic.wire import Frame, Member
from sgp_core.tensors.flat_vector import FlatVector, Tensor


class Arrived(NamedTuple):
    """A vector of a peer that is here."""

    tensors: list[Tensor]
    weight: float
    """Its nominal weight."""
    ratio: float
    """That of its PushSum weight to the nominal."""


class _Key(NamedTuple):
    sender: Member
    step: int
    attempt: int


class VectorInbox:
    """Memory for the vectors of peers, used again. A peer that is steps ahead has sent as many more.

    Used by the thread of the links and by that of training, under the lock of the links.
    """

    def __init__(self) -> None:
        self._sizes: list[tuple[int, torch.dtype]] = []
        self._free: list[list[Tensor]] = []
        self._arriving: dict[_Key, list[Tensor]] = {}
        self._arrived: dict[_Key, Arrived] = {}

    def lay_out(self, like: FlatVector) -> None:
        """Say what vectors look like."""
        self._sizes = [(tensor.numel(), tensor.dtype) for tensor in like.tensors]

    def place(self, sender: Member, frame: Frame) -> Sequence[memoryview]:
        """Return where a vector is to be written."""
        tensors = self._free.pop() if self._free else [torch.empty(size, dtype=kind) for size, kind in self._sizes]
        self._arriving[_Key(sender, frame.a, frame.b)] = tensors
        return [bytes_of(tensor) for tensor in tensors]

    def arrive(self, sender: Member, frame: Frame) -> None:
        """The whole vector is here."""
        key = _Key(sender, frame.a, frame.b)
        tensors = self._arriving.pop(key, None)
        if tensors is not None:  # else it was given up meanwhile
            self._arrived[key] = Arrived(tensors, frame.weight, frame.ratio)

    def has(self, sender: Member, step: int, attempt: int) -> bool:
        """Whether the vector of a step is here."""
        return _Key(sender, step, attempt) in self._arrived

    def take(self, sender: Member, step: int, attempt: int) -> Arrived | None:
        """Return the vector of a step, if it is here; give its memory back by :meth:`free`."""
        return self._arrived.pop(_Key(sender, step, attempt), None)

    def free(self, arrived: Arrived) -> None:
        """Use the memory of a vector again."""
        self._free.append(arrived.tensors)

    def forget_before(self, step: int, attempt: int) -> None:
        """Drop what peers that have died had sent for earlier steps, and what has been given up."""
        for key in [one for one in self._arrived if one.step < step or one.attempt < attempt]:
            self._free.append(self._arrived.pop(key).tensors)
        for key in [one for one in self._arriving if one.step < step]:
            del self._arriving[key]  # the memory may still be written to


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the memory of a contiguous tensor on the CPU."""
    if not tensor.numel():
        return memoryview(b"")
    return memoryview(tensor.detach().view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
