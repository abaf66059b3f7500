"""Give freed memory back to the system.

Networks allocate and free tensors of many sizes in several threads. By default glibc keeps what they freed, and a process
grows by hundreds of megabytes that nobody uses.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LARGE_BYTES = 2**25
"""Smaller blocks are used again: fetching pages anew for each tensor of a network takes as long as computing it."""
SLACK_BYTES = 2**28
"""Free memory at the end of the heap that is kept."""


def return_freed_memory() -> None:
    """Let large blocks go back as soon as they are freed, and all threads share two heaps; does nothing without glibc."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((M_MMAP_THRESHOLD, LARGE_BYTES), (M_TRIM_THRESHOLD, SLACK_BYTES), (M_ARENA_MAX, 2)):
            mallopt(option, value)
