"""What the parts of a store share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from geoanom.monitor.store.tables import facts

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from geoanom.monitor.store.database import Database


class Part:
    """Some of a store's questions and answers."""

    def __init__(self, database: Database) -> None:
        """Over an open database of the newest schema."""
        self._db = database


def facts_of(connection: Connection) -> dict[str, str]:
    """What the monitor as a whole is about."""
    return {row.key: row.value for row in connection.execute(sa.select(facts))}
