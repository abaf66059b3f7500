"""Keeps two runs on one output folder apart."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from geoanom.errors import LockedError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOOKS, LOOK_S = 10, 0.01
"""A lock that is held for longer than these times is not held by one who only looks."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; the system gives it back when the process ends, however it ends.

    Raises:
        LockedError: another process holds it.
        OutputError: the folder cannot be written to.
    """
    with held(folder / ".lock", folder, "another run works on it"):
        yield


@contextmanager
def held(path: Path, subject: Path, taken: str) -> Iterator[None]:
    """Hold a lock file; the system gives it back when the process ends, however it ends.

    Args:
        path: of the file, which stays.
        subject: what it stands for, named in the error.
        taken: what is said when another process holds it.

    Raises:
        LockedError: another process holds it.
        OutputError: the file cannot be written.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise OutputError(path, f"cannot be written ({error.strerror})", "check the folder's permissions") from error
    try:
        _take(handle, subject, taken)
        yield
    finally:
        os.close(handle)


def is_locked(folder: Path) -> bool:
    """Does a run work on a folder at this moment?"""
    try:
        handle = os.open(folder / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _take(handle: int, subject: Path, taken: str) -> None:
    try:
        _flock(handle)
    except BlockingIOError as error:
        owner = os.pread(handle, 20, 0).decode(errors="replace").strip()
        raise LockedError(subject, f"{taken} (process {owner or 'unknown'})", "wait for it, or stop it") from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)


def _flock(handle: int, looks: int = LOOKS) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if looks == 0:
            raise
        time.sleep(LOOK_S)
        _flock(handle, looks - 1)
