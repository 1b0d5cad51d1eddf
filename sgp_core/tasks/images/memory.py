"""Images kept as uint8 in memory (or in a memory-mapped file) and made into float batches on demand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class ImagesInMemory:
    """A split whose images all have one size and stay in memory as uint8.

    Args:
        images: uint8 ``[N, C, H, W]``.
        targets: int64 ``[N]``.
        mean: per channel, for pixels scaled to 0..1.
        std: per channel, for pixels scaled to 0..1.
        white: the pixel value that becomes 1.
        crop_padding: when augmenting, crop at random from the image padded with this many black pixels.
        flip: when augmenting, mirror every second image (at random) left to right.
    """

    def __init__(
        self,
        images: Tensor,
        targets: Tensor,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        white: float = 255.0,
        crop_padding: int = 0,
        flip: bool = False,
    ) -> None:
        self.images = images
        self.targets = targets
        self.crop_padding = crop_padding
        self.flip = flip
        # (x / white - mean) / std as one multiplication and one addition
        self._scale = torch.tensor([1.0 / (white * s) for s in std]).view(1, -1, 1, 1)
        self._shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(1, -1, 1, 1)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.targets)

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return normalised inputs ``[B, C, H, W]`` and targets ``[B]``; see ``Examples.batch``."""
        images = self.images.index_select(0, indices)
        if generator is not None and (self.crop_padding or self.flip):
            images = _crop_and_flip(images, self.crop_padding, self.flip, generator)
        inputs = images.to(torch.float32).mul_(self._scale).add_(self._shift)
        return inputs, self.targets.index_select(0, indices)


def _crop_and_flip(images: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Shift every image by up to ``padding`` pixels either way and mirror some, all in one gather."""
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, [padding] * 4)
    top = torch.randint(2 * padding + 1, (count, 1), generator=generator)
    left = torch.randint(2 * padding + 1, (count, 1), generator=generator)
    rows = top + torch.arange(height)
    columns = left + torch.arange(width)
    if flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    picked = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2).contiguous()
