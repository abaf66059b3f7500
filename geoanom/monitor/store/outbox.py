"""Where events wait until each sink has taken them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from geoanom.monitor.store.part import Part
from geoanom.monitor.store.tables import deliveries, events, sinks
from geoanom.monitor.values import Delivery, Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Row

LONGEST_WAIT_S = 86_400.0
"""A next try further ahead was set by a clock that has since been put back; it counts as due."""


class OutboxPart(Part):
    """An `Outbox`, as `values` tells it."""

    def enrol(self, *names: str) -> None:
        """Begin to keep events for sinks: for a new one those that are told from now on."""
        with self._db.writing() as connection:
            known = set(connection.execute(sa.select(sinks.c.name)).scalars())
            last = connection.execute(sa.select(sa.func.coalesce(sa.func.max(events.c.seq), 0))).scalar_one()
            for name in sorted(set(names) - known):
                connection.execute(sinks.insert().values(name=name, after_seq=last))

    def due(self, sink: str, now: float, limit: int) -> Sequence[Delivery]:
        """Events for a sink whose time has come (seconds since 1970), the oldest first; all events for one that was not enrolled."""
        ripe = sa.or_(deliveries.c.next_try <= now, deliveries.c.next_try > now + LONGEST_WAIT_S)
        query = (
            sa.select(events, sa.func.coalesce(deliveries.c.attempts, 0).label("attempts"))
            .join(deliveries, (deliveries.c.event_id == events.c.event_id) & (deliveries.c.sink == sink), isouter=True)
            .where(_addressed(sink), sa.or_(deliveries.c.state.is_(None), (deliveries.c.state == "waiting") & ripe))
            .order_by(events.c.moment, events.c.seq)
            .limit(limit)
        )
        with self._db.reading() as connection:
            return [Delivery(event=_event(row), sink=sink, attempts=row.attempts) for row in connection.execute(query)]

    def delivered(self, event_id: str, sink: str) -> None:
        """The sink has taken it; it is never handed out again."""
        self._settle(event_id, sink, state="delivered", error=None)

    def failed(self, event_id: str, sink: str, error: str, next_try: float) -> None:
        """The sink has not; try again from then on."""
        self._settle(event_id, sink, state="waiting", error=error, next_try=next_try, failures=1)

    def given_up(self, event_id: str, sink: str, error: str) -> None:
        """The sink never will: it is kept, named in the status, and not tried again."""
        self._settle(event_id, sink, state="given_up", error=error, failures=1)

    def undelivered(self, names: Iterable[str] | None = None) -> dict[str, int]:
        """Events that wait, by sink; of all sinks that were ever enrolled unless some are named."""
        with self._db.reading() as connection:
            asked = connection.execute(sa.select(sinks.c.name)).scalars().all() if names is None else list(names)
            return {name: connection.execute(_waiting(name)).scalar_one() for name in sorted(asked)}

    def abandoned(self) -> list[tuple[str, str, str]]:
        """Event, sink and error of what was given up."""
        query = sa.select(deliveries.c.event_id, deliveries.c.sink, deliveries.c.error).filter_by(state="given_up")
        with self._db.reading() as connection:
            return [(row.event_id, row.sink, row.error or "") for row in connection.execute(query.order_by("sink", "event_id"))]

    def events(self) -> list[Event]:
        """Every event that was told, in order, without those that a digest stands for."""
        return list(self.each_event())

    def each_event(self) -> Iterator[Event]:
        """The same, one at a time."""
        query = sa.select(events).where(~events.c.folded).order_by(events.c.moment, events.c.seq)
        with self._db.reading() as connection:
            for row in connection.execute(query, execution_options={"yield_per": 100}):
                yield _event(row)

    def forget_events(self, before: str) -> int:
        """Empty events of looks before a moment that no sink waits for; their ids stay, so that none is told twice."""
        old = sa.select(events.c.event_id).where(events.c.moment < before, events.c.body != "{}")
        with self._db.writing() as connection:
            found = set(connection.execute(old).scalars())
            for name in connection.execute(sa.select(sinks.c.name)).scalars().all():
                found -= set(connection.execute(_waiting(name, events.c.event_id)).scalars())
            for event_id in sorted(found):
                connection.execute(events.update().filter_by(event_id=event_id).values(body="{}"))
            return len(found)

    def _settle(self, event_id: str, sink: str, *, failures: int = 0, next_try: float = 0.0, **values: str | None) -> None:
        at = {"event_id": event_id, "sink": sink}
        with self._db.writing() as connection:
            old = connection.execute(sa.select(deliveries.c.attempts, deliveries.c.state).filter_by(**at)).first()
            if old is None:
                connection.execute(deliveries.insert().values(**at, attempts=failures, next_try=next_try, **values))
            elif old.state == "waiting":  # what has come to an end stays there
                change = deliveries.update().filter_by(**at)
                connection.execute(change.values(attempts=old.attempts + failures, next_try=next_try, **values))


def insert_events(connection: Connection, told: Iterable[Event], folded: Iterable[Event]) -> None:
    """Put events into the outbox; one whose id was ever there is left out."""
    known = set(connection.execute(sa.select(events.c.event_id)).scalars())
    for event, is_folded in [*((event, False) for event in told), *((event, True) for event in folded)]:
        if event.event_id not in known:
            known.add(event.event_id)
            row = {"event_id": event.event_id, "type": event.type, "moment": event.moment, "folded": is_folded}
            connection.execute(events.insert().values(**row, body=_dumped(event.body)))


def _addressed(sink: str) -> ColumnElement[bool]:
    """Is an event one that this sink is to get?"""
    since = sa.select(sinks.c.after_seq).filter_by(name=sink).scalar_subquery()
    return ~events.c.folded & (events.c.seq > sa.func.coalesce(since, 0))


def _waiting(sink: str, what: ColumnElement[Any] | None = None) -> sa.Select[Any]:
    ended = sa.select(deliveries.c.event_id).where(deliveries.c.sink == sink, deliveries.c.state != "waiting")
    return sa.select(sa.func.count() if what is None else what).select_from(events).where(_addressed(sink), events.c.event_id.not_in(ended))


def _dumped(body: Mapping[str, Any]) -> str:
    return json.dumps(body, separators=(",", ":"))


def _event(row: Row[Any]) -> Event:
    return Event(event_id=row.event_id, type=row.type, moment=row.moment, body=json.loads(row.body))
