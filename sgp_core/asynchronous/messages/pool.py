"""Buffers that several threads use by turns."""

from __future__ import annotations

from collections import deque

from sgp_core.tensors.flat_vector import Flat


class Pool:
    """Vectors laid out like the model, made when one is needed and none is free, and used again.

    Taken and given back by several threads; no lock, as appending to and popping from a deque are atomic.
    """

    def __init__(self, like: Flat) -> None:
        self._like = like
        self._free: deque[Flat] = deque()
        self.made = 0

    def take(self) -> Flat:
        """Return a vector of undefined content."""
        try:
            return self._free.popleft()
        except IndexError:
            self.made += 1
            return self._like.zeros_like()

    def give(self, vector: Flat) -> None:
        """Take it back."""
        self._free.append(vector)
