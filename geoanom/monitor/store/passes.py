"""Passes of the monitor, the paths they looked at, and how the monitor stands."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from geoanom.errors import ConfigError
from geoanom.monitor.store.part import Part, facts_of
from geoanom.monitor.store.tables import alerts, deliveries, events, facts, looks, runs, seen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, RowMapping

Outcome = Literal["look", "duplicate", "refused"]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A path that was looked at."""

    path: str
    stamp: str
    """What tells without reading whether its content may have changed."""
    outcome: Outcome
    digest: str | None = None
    code: str | None = None
    """Name of the error."""
    message: str | None = None
    attempts: int = 1


@dataclass(frozen=True, kw_only=True)
class Run:
    """A pass of the monitor."""

    run_id: int
    started: float
    """Seconds since 1970."""
    ended: float | None
    """None while it runs, and where it was killed."""
    outcome: str | None
    """``done``, ``partial`` or ``failed``."""
    counts: Mapping[str, int] = field(default_factory=dict)
    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a monitor stands."""

    facts: Mapping[str, str]
    last_run: Run | None
    last_success: float | None
    """End of the last pass that was done or partial, in seconds since 1970."""
    newest: str | None
    """Acquisition of the newest look; now less this is the lag."""
    looks: Mapping[str, int]
    """By state."""
    alerts: Mapping[str, int]
    """By status."""
    refused: int
    events: int
    """Told so far, without those that a digest stands for."""
    given_up: int
    """Deliveries that a sink will never take."""


class PassesPart(Part):
    """The monitor as a whole."""

    def facts(self) -> dict[str, str]:
        """What the monitor as a whole is about."""
        with self._db.reading() as connection:
            return facts_of(connection)

    def put_facts(self, **values: str) -> None:
        """Write what the monitor as a whole is about.

        Raises:
            ConfigError: the store is that of a monitor of another name.
        """
        with self._db.writing() as connection:
            name = facts_of(connection).get("name")
            if name is not None and values.get("name", name) != name:
                raise ConfigError("monitor.name", f"the store {self._db.label} is that of monitor {name!r}", "name another store")
            for key, value in values.items():
                connection.execute(facts.delete().filter_by(key=key))
                connection.execute(facts.insert().values(key=key, value=value))

    def seen(self) -> dict[str, Seen]:
        """Every path that was looked at."""
        with self._db.reading() as connection:
            return {row["path"]: Seen(**row) for row in connection.execute(sa.select(seen)).mappings()}

    def put_seen(self, entry: Seen) -> None:
        """Keep what became of a path."""
        row = {name: getattr(entry, name) for name in entry.__dataclass_fields__}
        with self._db.writing() as connection:
            connection.execute(seen.delete().filter_by(path=entry.path))
            connection.execute(seen.insert().values(row))

    def begin_run(self, now: float) -> int:
        """Note that a pass begins; returns its number."""
        with self._db.writing() as connection:
            made = connection.execute(runs.insert().values(started=now, counts="{}"))
            return int(made.inserted_primary_key[0]) if made.inserted_primary_key else 0

    def end_run(
        self, run_id: int, now: float, outcome: str, counts: Mapping[str, int] | None = None, *, message: str | None = None
    ) -> None:
        """Note how a pass ended."""
        values = {"ended": now, "outcome": outcome, "counts": json.dumps(dict(counts or {}), sort_keys=True), "message": message}
        with self._db.writing() as connection:
            connection.execute(runs.update().filter_by(run_id=run_id).values(values))

    def runs(self, limit: int = 100) -> list[Run]:
        """The last passes, the newest first."""
        with self._db.reading() as connection:
            return [_run(row) for row in connection.execute(sa.select(runs).order_by(runs.c.run_id.desc()).limit(limit)).mappings()]

    def standing(self) -> Standing:
        """How the monitor stands."""
        ended = sa.select(sa.func.max(runs.c.ended)).where(runs.c.outcome.in_(["done", "partial"]))
        last = sa.select(runs).order_by(runs.c.run_id.desc()).limit(1)
        with self._db.reading() as connection:
            newest = connection.execute(last).mappings().first()
            return Standing(
                facts=facts_of(connection),
                last_run=None if newest is None else _run(newest),
                last_success=connection.execute(ended).scalar(),
                newest=connection.execute(sa.select(sa.func.max(looks.c.moment)).where(looks.c.state != "superseded")).scalar(),
                looks=_counts(connection, looks.c.state),
                alerts=_counts(connection, alerts.c.status),
                refused=_count(connection, seen.c.outcome == "refused"),
                events=_count(connection, ~events.c.folded),
                given_up=_count(connection, deliveries.c.state == "given_up"),
            )


def _counts(connection: Connection, column: sa.Column[Any]) -> dict[str, int]:
    found = connection.execute(sa.select(column, sa.func.count()).group_by(column).order_by(column))
    return dict(found.all())


def _count(connection: Connection, condition: sa.ColumnElement[bool]) -> int:
    return int(connection.execute(sa.select(sa.func.count()).where(condition)).scalar_one())


def _run(row: RowMapping) -> Run:
    return Run(**{**row, "counts": json.loads(row["counts"])})
