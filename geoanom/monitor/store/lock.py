"""Keeps two runs of one monitor apart."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from geoanom.archive.lock import held
from geoanom.errors import LockedError
from geoanom.monitor.store.database import lock_key, plain_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
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


def _file_lock(store: Path, name: str) -> AbstractContextManager[None]:
    file = store.resolve()  # one store may have several names
    return held(file.with_name(f"{file.name}.lock"), store, _taken(name))


@contextmanager
def _advisory_lock(database: Database, name: str) -> Iterator[None]:
    """The lock lives as long as its connection, so every write asks first whether that still stands."""
    key = sa.func.hashtextextended(sa.func.current_setting("geoanom.schema"), lock_key(name))
    with plain_errors(database.label), database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not _try(connection, sa.select(sa.func.pg_try_advisory_lock(key))):
            raise LockedError(database.label, f"{_taken(name)} (on this or another machine)", "wait for it, or stop it")
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


def _taken(name: str) -> str:
    return f"another run of monitor {name!r} works on it"
