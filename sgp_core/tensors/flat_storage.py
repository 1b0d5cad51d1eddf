"""Flat storage: parameters as views into contiguous memory, so that messages are sent from the model itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.dlpack import to_dlpack

from sgp_core.tensors.flat_vector import FlatVector
from sgp_core.tensors.layout import TensorLayout

CUDA_ALIGNMENT_BYTES = 16
"""Parameters on GPUs start at multiples of this, for vectorised kernels; on CPUs they are packed."""

Sizes = Mapping[tuple[torch.dtype, torch.device], int]
"""Number of elements of each piece."""


def zeros(sizes: Sizes) -> list[Tensor]:
    """Return pieces of zeros, in memory of this process alone."""
    return [torch.zeros(size, dtype=dtype, device=device) for (dtype, device), size in sizes.items()]


@dataclass(frozen=True)
class _Place:
    """Where one parameter lies: its piece, its first element there, and its strides (memory format)."""

    piece: int
    offset: int
    shape: torch.Size
    strides: tuple[int, ...]

    def view(self, pieces: list[Tensor]) -> Tensor:
        span = pieces[self.piece][self.offset : self.offset + self.shape.numel()]
        return torch.as_strided(_with_own_storage(span), self.shape, self.strides)


class FlatStorage:
    """Moves parameters into one contiguous tensor per dtype and device; each stays the same Parameter object.

    Each has a storage of its own, which is its stretch of that memory: what saves, copies or pickles a tensor takes the
    whole of its storage along. All of the memory lives as long as one of them.

    Parameters are laid out last first, roughly the order in which backward completes their gradients. Memory formats
    (channels_last) are kept; a parameter with gaps or overlaps in memory becomes contiguous. Gaps between parameters
    are zero and stay zero.

    Args:
        parameters: distinct parameters; tied ones count once.
        allocate: returns the pieces, all zero.
        parts: the number of equal parts that each piece can be cut into; a piece is padded with zeros if need be.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], allocate: Callable[[Sizes], list[Tensor]] = zeros, parts: int = 1
    ) -> None:
        self.parameters = list(parameters)[::-1]
        self._places: list[_Place] = []
        sizes: dict[tuple[torch.dtype, torch.device], int] = {}
        for parameter in self.parameters:
            kind = (parameter.dtype, parameter.device)
            piece = list(sizes).index(kind) if kind in sizes else len(sizes)
            step = max(1, CUDA_ALIGNMENT_BYTES // parameter.element_size()) if parameter.is_cuda else 1
            offset = -(-sizes.get(kind, 0) // step) * step
            sizes[kind] = offset + parameter.numel()
            self._places.append(_Place(piece, offset, parameter.shape, _dense_strides(parameter)))
        self._used = list(sizes.values())
        if parts > 1:
            for dtype, device in sizes:
                step = parts * max(1, CUDA_ALIGNMENT_BYTES // dtype.itemsize if device.type == "cuda" else 1)
                sizes[dtype, device] = -(-sizes[dtype, device] // step) * step
        self.flat = FlatVector(allocate(sizes))
        for parameter, view in zip(self.parameters, self.views(self.flat), strict=True):
            view.copy_(parameter.data)
            parameter.data = view
        self.addresses = [parameter.data_ptr() for parameter in self.parameters]

    def views(self, flat: FlatVector) -> list[Tensor]:
        """Return a view into a vector of this layout, of a storage of its own, for each of ``self.parameters``."""
        return [place.view(flat.tensors) for place in self._places]

    def within(self, part: int, parts: int) -> list[tuple[int, int, int, int]]:
        """Return what lies in one of ``parts`` equal parts: index of a parameter, piece, begin and end in the part."""
        inside = []
        for index, (place, parameter) in enumerate(zip(self._places, self.parameters, strict=True)):
            size = self.flat.tensors[place.piece].numel() // parts
            begin = max(0, place.offset - part * size)
            end = min(size, place.offset + parameter.numel() - part * size)
            if begin < end:
                inside.append((index, place.piece, begin, end))
        return inside

    def cut(self, sizes: Iterable[int]) -> list[tuple[list[nn.Parameter], FlatVector]]:
        """Cut the model into parts of whole parameters, in the order in which backward completes their gradients.

        Args:
            sizes: the least bytes of each part but the last; each is asked for when needed.

        Returns:
            The parameters of each part, and the part of the flat vector that they are, gaps included.
        """
        least_sizes = iter(sizes)
        parts: list[tuple[list[nn.Parameter], FlatVector]] = []
        ends = [0] * len(self.flat.tensors)
        begins, members, least = list(ends), [], next(least_sizes)
        for parameter, place in zip(self.parameters, self._places, strict=True):
            members.append(parameter)
            ends[place.piece] = place.offset + parameter.numel()
            last = parameter is self.parameters[-1]
            if last:
                ends = [tensor.numel() for tensor in self.flat.tensors]
            part = self.flat.part(list(zip(begins, ends, strict=True)), first=not parts, last=last)
            if part.nbytes >= least or last:
                parts.append((members, part))
                begins, members, least = list(ends), [], next(least_sizes)
        return parts

    @property
    def places(self) -> list[tuple[int, int, tuple[int, ...]]]:
        """Piece, first element there and strides of each of ``self.parameters``."""
        return [(place.piece, place.offset, place.strides) for place in self._places]

    @property
    def layout(self) -> list[TensorLayout]:
        """Where each parameter lies; the padding of a piece is left out."""
        return [
            TensorLayout(
                used,
                str(tensor.dtype).removeprefix("torch."),
                tuple((place.offset, tuple(place.shape)) for place in self._places if place.piece == number),
            )
            for number, (tensor, used) in enumerate(zip(self.flat.tensors, self._used, strict=True))
        ]


def _with_own_storage(span: Tensor) -> Tensor:
    """Return a tensor of the same memory whose storage is this memory alone, and keeps the storage of ``span`` alive.

    DLPack hands over a pointer, not a storage. Where it cannot (rare dtypes and devices) return ``span`` itself: all
    works then, but saving a piece of the model saves all of it.
    """
    try:
        return torch.from_dlpack(to_dlpack(span))
    except (BufferError, RuntimeError):
        return span


def _dense_strides(tensor: Tensor) -> tuple[int, ...]:
    """Return the tensor's strides if it fills its memory without gaps or overlaps, else contiguous strides."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return torch.empty(tensor.shape, device="meta").stride()
        expected *= size
    return tensor.stride()
