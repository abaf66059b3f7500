"""Where a monitor remembers: SQLite by path, PostgreSQL with PostGIS by URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geoanom.monitor.store.database import PATIENCE_S, connect
from geoanom.monitor.store.lock import exclusive
from geoanom.monitor.store.looks import LooksPart
from geoanom.monitor.store.outbox import OutboxPart
from geoanom.monitor.store.passes import PassesPart
from geoanom.monitor.store.schema import prepare
from geoanom.monitor.store.state import StatePart

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self


class Store(LooksPart, StatePart, OutboxPart, PassesPart):
    """The memory of one monitor; closed by `close`, or by leaving its context."""

    @property
    def label(self) -> str:
        """How messages call it: without passwords."""
        return self._db.label

    def exclusive(self, name: str) -> AbstractContextManager[None]:
        """Hold the lock of a monitor.

        Raises:
            LockedError: another run holds it.
        """
        return exclusive(self._db, name)

    def close(self) -> None:
        """Close all connections."""
        self._db.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_store(url: str, *, must_exist: bool = False, patience_s: float = PATIENCE_S) -> Store:
    """Open a store; it is made, or brought to the newest schema, where need be.

    Args:
        url: path of an SQLite file, ``sqlite:///PATH``, or ``postgresql://USER@HOST/DATABASE`` (extra ``postgis``).
        must_exist: make nothing where there is no store.
        patience_s: how long to wait for another program that holds the database, in seconds.

    Raises:
        ConfigError: the URL cannot be used, or a package or PostGIS is missing.
        InputError: there is no such store, it is no store, or is of a newer schema.
        OutputError: the database cannot be reached or written.
        LockedError: another program holds it.
    """
    database = connect(url, must_exist=must_exist, patience_s=patience_s)
    try:
        prepare(database, must_exist=must_exist)
    except BaseException:
        database.engine.dispose()
        raise
    return Store(database)
