"""Nothing stands under its final name until it is complete, checked and on the disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from geoanom.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

LEFTOVER = ".geoanom-"
"""How the names of temporary folders start."""


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output before any work is done for it.

    Raises:
        OutputError: it exists and may not be replaced, or its folder is missing or cannot be written to.
    """
    if path.exists() and not overwrite:
        raise OutputError(path, "exists already", "choose another name or add --overwrite")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OutputError(path, f"its folder {folder} does not exist", "create it first")
    if not os.access(folder, os.W_OK):
        raise OutputError(path, f"its folder {folder} cannot be written to", "choose another folder")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name when the block ends well, and vanishes otherwise.

    Checking what was written is the caller's part, before the block ends.

    Raises:
        OutputError: it could not be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=LEFTOVER, dir=path.absolute().parent, ignore_cleanup_errors=True) as folder:
            temporary = Path(folder) / path.name
            yield temporary
            _sync(temporary)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        _sync(path.absolute().parent)
    except OSError as error:
        raise OutputError(path, f"could not be written ({error.strerror or error})", "check the disk's space and permissions") from error


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """The same for a folder; an existing one is replaced.

    Raises:
        OutputError: it could not be written.
    """
    try:
        parent = path.absolute().parent
        with tempfile.TemporaryDirectory(prefix=LEFTOVER, dir=parent, ignore_cleanup_errors=True) as folder:
            temporary = Path(folder) / "new"
            temporary.mkdir()
            yield temporary
            for child in temporary.iterdir():
                _sync(child)
            _sync(temporary)
            if path.exists():
                path.rename(Path(folder) / "old")
            temporary.rename(path)
        _sync(parent)
    except OSError as error:
        raise OutputError(path, f"could not be written ({error.strerror or error})", "check the disk's space and permissions") from error


def is_leftover(name: str) -> bool:
    """Is this the name of a temporary folder, left behind when its process was killed?"""
    return name.startswith(LEFTOVER)


def remove_leftover(path: str) -> None:
    """Remove a temporary folder with all that is in it."""
    shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
