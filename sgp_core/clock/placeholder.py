"""What rules compute with where only their messages matter: a vector whose arithmetic does nothing."""

from __future__ import annotations

from typing import Any


class Placeholder:
    """Stands in for a vector or a tensor: whatever is done with it returns it again.

    Args:
        share: of the model that it stands for.
    """

    def __init__(self, share: float = 1.0) -> None:
        self.share = share

    def fragment(self, number: int, count: int, stretches: int = 1) -> Placeholder:
        """Return what stands for one of ``count`` fragments."""
        return Placeholder(self.share / count)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *arguments: Any, **options: Any) -> Placeholder:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __call__
    __neg__ = __pow__ = __getitem__ = __call__

    def __float__(self) -> float:
        return 1.0

    def __bool__(self) -> bool:
        return False

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


NOTHING_MUCH = Placeholder()
