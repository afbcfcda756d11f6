"""The C library's heap, told to use freed memory again.

Lifting makes and frees maps of a few megabytes all the time. glibc gives the end of its heap back to the kernel as soon
as some tens of megabytes of it are free, and has to fault them in again, page by page, for the next map: a fifth of
what a class map costs with depth (docs/speed.md). The most that a process ever needs hardly changes.
"""

from __future__ import annotations

import ctypes
import platform

OWN_MAPPING, KEPT = (-3, 2**26), (-1, 2**28)
"""Parameters of mallopt(3): bytes from which an allocation is mapped by itself, and free bytes at the heap's end from
which they are given back (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD)."""


def keep_freed_memory() -> None:
    """Let this process keep what it frees, up to 256 MB, for what it needs next. Does nothing without glibc."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, value in (OWN_MAPPING, KEPT):
            libc.mallopt(parameter, value)
