"""One database by URL: connections, transactions, and its errors in one line each."""

from __future__ import annotations

import hashlib
import importlib.util
import sqlite3
import threading
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, SQLAlchemyError

from geoanom.errors import ConfigError, GeoanomError, InputError, LockedError, OutputError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

PATIENCE_S = 30.0
"""How long a store waits for another program that holds it."""
SCHEMA = "geoanom"
"""PostgreSQL schema of the tables, unless the URL says ``?schema=NAME``."""
CONNECTING = {"connect_timeout": "10", "keepalives_idle": "30", "tcp_user_timeout": "60000"}
"""A server that went away without a word is found out."""
MISSING = ("there is no such store", "run geoanom monitor run first, or correct the path")
"""What is wrong where a store must exist and does not, and the way out."""
BUSY = ("database is locked", "database table is locked", "lock timeout")


class Database:
    """An engine with the store's manners."""

    def __init__(self, engine: Engine, label: str, path: Path | None) -> None:
        """Use `connect`."""
        self.engine, self.label, self.path = engine, label, path
        self.held: Connection | None = None
        """The connection that holds the lock of a run in PostgreSQL."""
        self._asking = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only looks."""
        with plain_errors(self.label), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is kept as a whole, or not at all.

        Raises:
            LockedError: another program holds the database.
            OutputError: it cannot be written, or the lock of this run is lost.
        """
        with plain_errors(self.label), self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            self._check_lock()
            yield connection

    def _check_lock(self) -> None:
        """A run whose lock went with its connection may not write beside the next run."""
        with self._asking:
            if self.held is not None:
                self.held.execute(sa.text("SELECT 1"))

    @property
    def is_postgresql(self) -> bool:
        """Or SQLite."""
        return self.engine.dialect.name == "postgresql"


def connect(url: str, *, must_exist: bool = False, patience_s: float = PATIENCE_S) -> Database:
    """The database that a URL or a path of a file names; a file is made where there is none, unless it must exist.

    Raises:
        ConfigError: the URL cannot be used, or an extra package is missing.
        InputError: there is no such file.
        OutputError: the database cannot be reached or made.
    """
    if "://" not in url:
        return _sqlite(Path(url), must_exist=must_exist, patience_s=patience_s)
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        return _sqlite(Path(parsed.database), must_exist=must_exist, patience_s=patience_s)
    if parsed.get_backend_name() == "postgresql":
        return _postgresql(parsed, patience_s)
    raise ConfigError(f"{parsed.drivername}://", "is no kind of store", "name a file, or postgresql://USER@HOST/DATABASE")


def _parsed(url: str) -> URL:
    scheme, _, rest = url.partition("://")
    try:
        return make_url(f"{'postgresql' if scheme == 'postgres' else scheme}://{rest}")
    except (ArgumentError, ValueError):
        raise ConfigError(f"{scheme}://", "is not a usable URL of a store", "write postgresql://USER@HOST/DATABASE") from None


def _sqlite(path: Path, *, must_exist: bool, patience_s: float) -> Database:
    if must_exist and not path.is_file():
        raise InputError(path, *MISSING)
    if not path.absolute().parent.is_dir():
        raise OutputError(path, "its folder does not exist", "make the folder, or correct the path")
    engine = sa.create_engine(URL.create("sqlite", database=str(path.absolute())), connect_args={"timeout": patience_s})
    sa.event.listen(engine, "connect", _sqlite_manners)
    sa.event.listen(engine, "begin", _sqlite_begin)
    return Database(engine, str(path), path)


def _sqlite_manners(connection: sqlite3.Connection, _record: object) -> None:
    """Transactions begin when we say so: the driver begins them too late to keep two writers in order, and not at all for schemas."""
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        with closing(connection.execute(f"PRAGMA {pragma}")):
            pass


def _sqlite_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql(url: URL, patience_s: float) -> Database:
    label = URL.create("postgresql", username=url.username, host=url.host, port=url.port, database=url.database).render_as_string()
    missing = [name for name in ("psycopg", "geoalchemy2") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(label, f"needs {' and '.join(missing)}", "pip install 'geoanom[postgis]'")
    schema = str(url.query.get("schema", SCHEMA))
    if not schema.isidentifier() or schema != schema.lower():
        raise ConfigError(label, f"{schema!r} is no plain name of a schema", "use lower-case letters, digits and underscores")
    known = {key: value for key, value in CONNECTING.items() if key not in url.query}
    asked = url.set(drivername="postgresql+psycopg").difference_update_query(["schema"])
    engine = sa.create_engine(asked, connect_args=known, pool_pre_ping=True)
    sa.event.listen(engine, "connect", lambda connection, _record: _postgresql_manners(connection, schema, patience_s))
    return Database(engine, label, None)


def _postgresql_manners(connection: Any, schema: str, patience_s: float) -> None:
    """Our schema comes before those that the database looks into anyway, such as PostGIS's own."""
    connection.autocommit = True
    connection.execute("SELECT set_config('search_path', %s || ', ' || current_setting('search_path'), false)", (schema,))
    connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{int(patience_s * 1000)}ms",))
    connection.execute("SELECT set_config('geoanom.schema', %s, false)", (schema,))
    connection.autocommit = False


def lock_key(name: str) -> int:
    """A number of 64 bits for an advisory lock of PostgreSQL."""
    return int.from_bytes(hashlib.sha256(f"geoanom monitor {name}".encode()).digest()[:8], "big", signed=True)


@contextmanager
def plain_errors(label: str) -> Iterator[None]:
    """The database's errors as ours: what it said, without statements, values and passwords."""
    try:
        yield
    except GeoanomError:
        raise
    except SQLAlchemyError as error:
        raise _plain(label, error) from error


def _plain(label: str, error: SQLAlchemyError) -> GeoanomError:
    said = getattr(error, "orig", None) or error
    reason = one_line(str(said).strip().splitlines()[0] if str(said).strip() else type(said).__name__)
    if any(busy in reason for busy in BUSY):
        return LockedError(label, f"another program holds the store ({reason})", "wait for it, or stop it, then run again")
    if isinstance(said, sqlite3.DatabaseError) and not isinstance(said, sqlite3.OperationalError | sqlite3.IntegrityError):
        return InputError(label, f"is damaged, or not a store ({reason})", "restore it from a copy, or name another store")
    if isinstance(error, DatabaseError):
        return OutputError(label, f"cannot be used ({reason})", "check that it can be reached and written, then run again")
    return OutputError(label, f"cannot be used ({reason})", "check its URL and settings")
