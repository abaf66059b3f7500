"""Brings a store to the newest schema, or says why it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from geoanom.errors import ConfigError, InputError
from geoanom.monitor.store.database import MISSING, lock_key

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

    from geoanom.monitor.store.database import Database

HEAD = "0001"
"""The newest schema."""
MIGRATIONS = Path(__file__).parent / "migrations"


def prepare(database: Database, *, must_exist: bool = False) -> None:
    """Make or upgrade the tables, in one transaction; does nothing where they are of the newest schema.

    Raises:
        InputError: the store is of a newer schema, or belongs to another program; or is not there, and must exist.
        ConfigError: the database has no PostGIS.
    """
    with database.reading() as connection:
        if revision(connection) == HEAD:
            return
        if must_exist and not _tables(connection):
            raise InputError(database.label, *MISSING)
    with database.writing() as connection:
        if database.is_postgresql:
            _prepare_postgresql(connection, database.label)
        _refuse_foreign(connection, database.label)
        _upgrade(connection)


def revision(connection: Connection) -> str | None:
    """The schema that a store has; None where it has none yet."""
    if not _tables(connection) >= {"alembic_version"}:
        return None
    found: str | None = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _tables(connection: Connection) -> set[str]:
    if connection.dialect.name == "postgresql":
        query = "SELECT tablename FROM pg_tables WHERE schemaname = current_setting('geoanom.schema')"
    else:
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    return set(connection.execute(sa.text(query)).scalars())


def _refuse_foreign(connection: Connection, label: str) -> None:
    found = revision(connection)
    if found is None and _tables(connection):
        raise InputError(label, "holds tables of another program", "name a store of its own")
    if found is not None and found not in _known():
        raise InputError(label, f"has schema {found}, this geoanom reads {HEAD}", "use the geoanom that made it, or a newer one")


def _prepare_postgresql(connection: Connection, label: str) -> None:
    """Two that come first at once go one after the other."""
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock_key("schema"))))
    _need_postgis(connection, label)
    connection.execute(sa.text("SELECT 1"))
    schema = connection.execute(sa.text("SELECT quote_ident(current_setting('geoanom.schema'))")).scalar_one()
    connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))


def _need_postgis(connection: Connection, label: str) -> None:
    """PostGIS is put into the database where this user may do so."""
    if connection.execute(sa.text("SELECT 1 FROM pg_extension WHERE extname = 'postgis'")).scalar():
        return
    try:
        with connection.begin_nested():
            connection.execute(sa.text("CREATE EXTENSION postgis WITH SCHEMA public"))
    except sa.exc.DBAPIError as error:
        remedy = "let its administrator install PostGIS and run CREATE EXTENSION postgis in this database"
        raise ConfigError(label, "has no PostGIS", remedy) from error


def _upgrade(connection: Connection) -> None:
    from alembic import command

    config = _alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _known() -> set[str]:
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory.from_config(_alembic()).walk_revisions()}


def _alembic() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
