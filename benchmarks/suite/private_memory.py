"""A /dev/shm of one's own: what other programs keep there is not seen, so it is not mistaken for a leak."""

from __future__ import annotations

import ctypes
import os

_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


def hide_shared_memory(path: str = "/dev/shm") -> bool:
    """Give this thread, and what it starts from now on, an empty /dev/shm; return False without the right to do so."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() or libc.unshare(_CLONE_NEWNS):
        return False
    if libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        return False
    return bool(libc.mount(b"tmpfs", path.encode(), b"tmpfs", 0, b"mode=1777") == 0)
