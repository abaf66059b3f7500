"""What became of every scene: one SQLite file in the output folder, written by one process."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from geoanom.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

State = Literal["pending", "running", "done", "partial", "failed", "refused", "quarantined", "duplicate"]
STATES: tuple[State, ...] = get_args(State)
SCORED = frozenset({"done", "partial"})
SETTLED = frozenset({"done", "partial", "refused", "quarantined", "duplicate"})
"""States that the same scene under the same recipe keeps."""
SCHEMA_VERSION = 1
NAME = "ledger.sqlite"
TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE scenes (
  name BLOB PRIMARY KEY, stamp TEXT NOT NULL, digest TEXT NOT NULL, recipe TEXT NOT NULL, state TEXT NOT NULL,
  attempts INTEGER NOT NULL, kills INTEGER NOT NULL, seconds REAL NOT NULL, tiles_scored INTEGER NOT NULL, tiles_masked INTEGER NOT NULL,
  anomalies INTEGER NOT NULL, outputs TEXT NOT NULL, error_code TEXT, error_message TEXT, duplicate_of BLOB,
  worker TEXT, since REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A scene of the archive, and what became of it."""

    name: str
    """Path from the archive's root; undecodable bytes as surrogates."""
    stamp: str = ""
    """Device, inode, size and time of change of its files."""
    digest: str = ""
    """SHA-256 of its content, in hex; empty where it could not be read."""
    recipe: str = ""
    """Model, settings and version that it was scored with."""
    state: State = "pending"
    attempts: int = 0
    kills: int = 0
    """Workers that it took down."""
    seconds: float = 0.0
    tiles_scored: int = 0
    tiles_masked: int = 0
    anomalies: int = 0
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Path from the output folder to SHA-256."""
    error_code: str | None = None
    error_message: str | None = None
    duplicate_of: str | None = None
    worker: str | None = None
    since: float = 0.0
    """Seconds since 1970 of the last change of state."""

    def cleared(self, *, keep_history: bool, stamp: str, digest: str, recipe: str) -> Row:
        """The row before anything was done; the history tells how often the same scene was tried."""
        attempts, kills = (self.attempts, self.kills) if keep_history else (0, 0)
        return Row(name=self.name, stamp=stamp, digest=digest, recipe=recipe, attempts=attempts, kills=kills)

    def moved_to(self, state: State, **changes: Any) -> Row:
        """The row in another state from now on."""
        return replace(self, state=state, since=time.time(), **changes)


COLUMNS = tuple(f.name for f in fields(Row))
PUT = f"INSERT OR REPLACE INTO scenes ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 - our own names


class Ledger:
    """The open ledger of an output folder."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        """Use `open_ledger` or `read_ledger`."""
        self._connection, self.path = connection, path

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def rows(self) -> dict[str, Row]:
        """All rows by name, in the order of the names' bytes."""
        with _plain_errors(self.path):
            found = self._connection.execute(f"SELECT {', '.join(COLUMNS)} FROM scenes ORDER BY name").fetchall()  # noqa: S608 - our own names
        return {row.name: row for row in map(_row, found)}

    def put(self, *rows: Row) -> None:
        """Write rows, all or none."""
        with _plain_errors(self.path), self._connection:
            self._connection.executemany(PUT, [_values(row) for row in rows])

    def forget(self, *names: str) -> None:
        """Remove rows."""
        with _plain_errors(self.path), self._connection:
            self._connection.executemany("DELETE FROM scenes WHERE name = ?", [(os.fsencode(name),) for name in names])

    def meta(self) -> dict[str, str]:
        """What the run as a whole is about."""
        with _plain_errors(self.path):
            return dict(self._connection.execute("SELECT key, value FROM meta").fetchall())

    def put_meta(self, **values: str) -> None:
        """Write values of the run as a whole."""
        with _plain_errors(self.path), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values.items()))


def open_ledger(folder: Path) -> Ledger:
    """Open the ledger of an output folder for writing; a new folder gets a new one.

    Raises:
        InputError: it is damaged, of another schema, or gone while its layers are still there.
        OutputError: it cannot be written.
    """
    path = folder / NAME
    if not path.exists():
        return _new_ledger(path, folder)
    read_ledger(folder).close()  # before anything is written into what may be damaged
    with _plain_errors(path):
        connection = sqlite3.connect(path, timeout=30.0)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return Ledger(connection, path)


def read_ledger(folder: Path) -> Ledger:
    """Open a ledger for looking only, also while a run writes it.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        raise InputError(folder, "is not the output folder of an archive run", "name the folder given to geoanom archive run -o")
    with _plain_errors(path):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?{_reading_mode(path)}", uri=True, timeout=30.0)
        try:
            _check(connection, path)
        except BaseException:
            connection.close()
            raise
        return Ledger(connection, path)


def _reading_mode(path: Path) -> str:
    """At rest there is no log beside the file; then SQLite need not make one, which cannot be where all is read-only."""
    return "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"


def _new_ledger(path: Path, folder: Path) -> Ledger:
    if (folder / "layers").exists():
        raise InputError(path, "is gone, and its layers are still there", "restore it, or name a new output folder")
    fresh = path.with_name(f".{path.name}.new")
    with _plain_errors(path):
        fresh.unlink(missing_ok=True)
        with closing(sqlite3.connect(fresh)) as connection:
            connection.executescript(TABLES)
            connection.execute("INSERT INTO meta VALUES ('schema_version', ?)", (str(SCHEMA_VERSION),))
            connection.commit()
        fresh.replace(path)
    return open_ledger(folder)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse what is damaged or of another schema."""
    answer = connection.execute("PRAGMA quick_check").fetchone()
    if answer != ("ok",):
        raise _damaged(path, str(answer))
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables >= {"meta", "scenes"}:
        raise _damaged(path, "its tables are missing")
    found = dict(connection.execute("SELECT key, value FROM meta").fetchall()).get("schema_version")
    if found != str(SCHEMA_VERSION):
        raise InputError(path, f"has schema {found}, this geoanom reads {SCHEMA_VERSION}", "use the geoanom that made it")


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(path, f"is damaged ({reason})", "restore it from a copy, or name a new output folder; the layers are untouched")


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OutputError(path, f"cannot be used ({error})", "check the disk's space and permissions, then run again") from error
    except sqlite3.DatabaseError as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise OutputError(path, f"cannot be used ({error.strerror or error})", "check the disk's space and permissions") from error


def _values(row: Row) -> tuple[Any, ...]:
    """A row as SQLite keeps it: names as bytes, since not all of them are text."""
    kept = {name: getattr(row, name) for name in COLUMNS}
    kept["name"] = os.fsencode(row.name)
    kept["duplicate_of"] = None if row.duplicate_of is None else os.fsencode(row.duplicate_of)
    kept["outputs"] = json.dumps(dict(row.outputs), sort_keys=True)
    return tuple(kept.values())


def _row(values: tuple[Any, ...]) -> Row:
    kept = dict(zip(COLUMNS, values, strict=True))
    kept["name"] = os.fsdecode(kept["name"])
    kept["duplicate_of"] = None if kept["duplicate_of"] is None else os.fsdecode(kept["duplicate_of"])
    kept["outputs"] = json.loads(kept["outputs"])
    return Row(**kept)
