"""Hooks on all modules or all optimizers of a process, for as long as the object lives that they serve."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch.utils.hooks import RemovableHandle

_ADDED: list[tuple[weakref.ref[Any], RemovableHandle]] = []


def add_global_hook(
    owner: object, register: Callable[[Callable[..., None]], RemovableHandle], hook: Callable[..., None]
) -> RemovableHandle:
    """Register a hook; return what removes it.

    It must hold ``owner`` weakly, and do nothing once that is gone. Then it is not removed at once, but when the next
    is added: torch may be going through its hooks at the moment in which garbage is collected.

    Args:
        owner: the object that the hook serves.
        register: torch's function that adds it.
    """
    for entry in [entry for entry in _ADDED if entry[0]() is None]:
        entry[1].remove()
        _ADDED.remove(entry)
    handle = register(hook)
    _ADDED.append((weakref.ref(owner), handle))
    return handle
