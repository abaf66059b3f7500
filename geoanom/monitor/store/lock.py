"""Keeps two runs of one monitor apart."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from geoanom.errors import LockedError, OutputError
from geoanom.monitor.store.database import lock_key, plain_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from geoanom.monitor.store.database import Database

LOOKS, LOOK_S = 10, 0.05
"""A lock of PostgreSQL that is held for longer than these times is held by a run that lives."""


@contextmanager
def exclusive(database: Database, name: str) -> Iterator[None]:
    """Hold the lock of a monitor; it goes back when the process ends, however it ends.

    Raises:
        LockedError: another run holds it.
        OutputError: the lock cannot be taken.
    """
    with _file_lock(database.path, name) if database.path is not None else _advisory_lock(database, name):
        yield


@contextmanager
def _file_lock(store: Path, name: str) -> Iterator[None]:
    path = store.with_name(f"{store.name}.lock")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise OutputError(path, f"cannot be written ({error.strerror})", "check the folder's permissions") from error
    try:
        _take(handle, store, name)
        yield
    finally:
        os.close(handle)


def _take(handle: int, store: Path, name: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(handle, 20, 0).decode(errors="replace").strip()
        raise _taken(str(store), name, f"process {owner or 'unknown'}") from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)


@contextmanager
def _advisory_lock(database: Database, name: str) -> Iterator[None]:
    """The lock lives as long as its connection, so every write asks first whether that still stands."""
    key = sa.func.hashtextextended(sa.func.current_setting("geoanom.schema"), lock_key(name))
    with plain_errors(database.label), database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not _try(connection, sa.select(sa.func.pg_try_advisory_lock(key))):
            raise _taken(database.label, name, "on this or another machine")
        database.held = connection
        try:
            yield
        finally:
            database.held = None
            with suppress(SQLAlchemyError):  # a connection that is lost has given the lock back
                connection.execute(sa.select(sa.func.pg_advisory_unlock(key)))


def _try(connection: Connection, asking: sa.Select[Any], looks: int = LOOKS) -> bool:
    """Ask a few times: the server takes a moment to notice that a run was killed."""
    if connection.execute(asking).scalar():
        return True
    time.sleep(LOOK_S)
    return looks > 1 and _try(connection, asking, looks - 1)


def _taken(label: str, name: str, owner: str) -> LockedError:
    return LockedError(label, f"another run of monitor {name!r} works on it ({owner})", "wait for it, or stop it")
