"""Alerts and how they came about: what is derived from looks, replaced as a whole from some look on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from geoanom.monitor.events import Said, retired
from geoanom.monitor.history import History, Place, Transition, Verdict, shown_transitions
from geoanom.monitor.store.codec import alert_bytes, alert_from, cells_bytes, cells_from, place_bytes, place_from
from geoanom.monitor.store.kinds import from_wkb, to_wkb
from geoanom.monitor.store.outbox import insert_events
from geoanom.monitor.store.part import Part
from geoanom.monitor.store.tables import alerts, detections, events, looks, names, observations, transitions, verdicts
from geoanom.monitor.values import Alert, Detection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Row, Table

    from geoanom.monitor.events import Telling
    from geoanom.monitor.store.looks import Order
    from geoanom.monitor.values import Judgement

FIRST: tuple[str, str] = ("", "")
"""Before every look."""
LISTED = ("alert_id", "confidence", "area", "score", "max_score", "first_detected", "last_detected", "last_observed")
COUNTED = ("n_detections", "n_valid_observations", "n_clear", "scene", "reason")


class StatePart(Part):
    """What the looks mean."""

    def history(self, monitor: str, before: Order | None = None) -> History:
        """All places as they were before a look, to go on from there; None for as they are."""
        order = sa.tuple_(observations.c.moment, observations.c.digest)
        newest = sa.func.row_number().over(
            partition_by=observations.c.alert_id, order_by=(observations.c.moment.desc(), observations.c.digest.desc())
        )
        ranked = sa.select(observations.c.place, newest.label("age")).where(*([] if before is None else [order < before])).subquery()
        with self._db.reading() as connection:
            found = [place_from(data) for data in connection.execute(sa.select(ranked.c.place).where(ranked.c.age == 1)).scalars()]
        found.sort(key=lambda place: (place.alert.first_detected, place.alert.alert_id))
        places = {place.alert.alert_id: place for place in found}
        return History(monitor=monitor, places=places, order=max((place.order for place in found), default=FIRST))

    def said(self) -> Said:
        """What was told before, and what people answered."""
        with self._db.reading() as connection:
            told = frozenset(connection.execute(sa.select(events.c.event_id)).scalars())
            return replace(_answered(connection), told=told)

    def commit_state(self, since: Order | None, judgements: Sequence[Judgement], telling: Telling) -> None:
        """Replace all that is derived from looks since one, and put the events into the outbox: all of it or nothing.

        Args:
            since: the first look that was judged; None for the first of all.
            judgements: of all looks since then that stand; their cells are not needed.
            telling: of the history before `since`, advanced by these judgements.

        Raises:
            ValueError: these are not the looks that stand since then.
        """
        first = since or FIRST
        with self._db.writing() as connection:
            _check_complete(connection, first, judgements)
            _forget(connection, first)
            _insert(connection, detections, [row for judgement in judgements for row in _detection_rows(judgement)])
            _insert(connection, observations, [_observation_row(place) for place in telling.history.log])
            _insert(connection, transitions, [_transition_row(move) for move in telling.history.moves])
            _replace_alerts(connection, telling)
            _mark(connection, judgements)
            insert_events(connection, telling.events, telling.folded)

    def alerts(self) -> dict[str, Alert]:
        """All alerts as they stand and as people see them, by name, by first detection and id."""
        query = sa.select(alerts.c.name, alerts.c.status, names.c.alert).join(names, names.c.name == alerts.c.name)
        with self._db.reading() as connection:
            found = connection.execute(query.order_by(alerts.c.first_detected, alerts.c.alert_id)).all()
        return {row.name: _with_status(alert_from(row.alert), row.status) for row in found}

    def transitions(self) -> tuple[Transition, ...]:
        """All steps of all alerts, by moment."""
        order = (transitions.c.moment, transitions.c.digest, transitions.c.alert_id)
        with self._db.reading() as connection:
            moves = [Transition(**row) for row in connection.execute(sa.select(transitions).order_by(*order)).mappings()]
            said, ids = _verdicts(connection), dict(connection.execute(sa.select(alerts.c.name, alerts.c.alert_id)).all())
        return shown_transitions(moves, {ids[name]: verdict for name, verdict in said.items() if name in ids})

    def detections(self, digest: str) -> tuple[Detection, ...]:
        """What one look showed otherwise than its memory said."""
        with self._db.reading() as connection:
            found = connection.execute(sa.select(detections).filter_by(digest=digest).order_by(detections.c.number))
            return tuple(_detection(row) for row in found)

    def observations(self, alert_id: str) -> list[Place]:
        """Each state of one alert's place, in order."""
        order = (observations.c.moment, observations.c.digest)
        with self._db.reading() as connection:
            found = connection.execute(sa.select(observations.c.place).filter_by(alert_id=alert_id).order_by(*order)).scalars()
            return [place_from(data) for data in found]

    def put_verdict(self, verdict: Verdict) -> bool:
        """Keep what a person says of an alert, by name; the last word counts. Returns whether there is such an alert."""
        with self._db.writing() as connection:
            _await_verdicts(connection)
            known = connection.execute(sa.select(names.c.name).filter_by(name=verdict.alert_id)).first() is not None
            if known:
                row = {"name": verdict.alert_id, "verdict": verdict.verdict, "moment": verdict.moment}
                connection.execute(verdicts.delete().filter_by(name=verdict.alert_id))
                connection.execute(verdicts.insert().values(**row, author=verdict.author, note=verdict.note))
                status = sa.literal("dismissed") if verdict.verdict == "dismissed" else alerts.c.course
                connection.execute(alerts.update().filter_by(name=verdict.alert_id).values(status=status))
            return known

    def verdicts(self) -> Mapping[str, Verdict]:
        """What people said of alerts, by name."""
        with self._db.reading() as connection:
            return _verdicts(connection)


def _answered(connection: Connection) -> Said:
    """Names and what people say of them."""
    named = {row.name: alert_from(row.alert) for row in connection.execute(sa.select(names))}
    return Said(named=named, verdicts=_verdicts(connection))


def _verdicts(connection: Connection) -> dict[str, Verdict]:
    found = connection.execute(sa.select(verdicts).order_by(verdicts.c.name))
    return {row.name: Verdict(alert_id=row.name, verdict=row.verdict, moment=row.moment, author=row.author, note=row.note) for row in found}


def _check_complete(connection: Connection, first: Order, judgements: Sequence[Judgement]) -> None:
    """A pass that left looks out would take alerts back that it did not come to."""
    order = sa.tuple_(looks.c.moment, looks.c.digest)
    query = sa.select(looks.c.digest).where(order >= first, looks.c.state != "superseded").order_by(looks.c.moment, looks.c.digest)
    standing = list(connection.execute(query).scalars())
    if standing != [judgement.look.digest for judgement in judgements]:
        raise ValueError(f"{len(judgements)} judgements are not those of the {len(standing)} looks that stand since {first[0]}")


def _forget(connection: Connection, first: Order) -> None:
    """Remove what was derived from looks since one."""
    later = sa.select(looks.c.digest).where(sa.tuple_(looks.c.moment, looks.c.digest) >= first)
    connection.execute(detections.delete().where(detections.c.digest.in_(later)))
    for table in (observations, transitions):
        connection.execute(table.delete().where(sa.tuple_(table.c.moment, table.c.digest) >= first))
    connection.execute(looks.update().where(looks.c.digest.in_(later)).values(judged=False))


def _mark(connection: Connection, judgements: Sequence[Judgement]) -> None:
    for judgement in judgements:
        state = "used" if judgement.suspect is None else "suspect"
        change = looks.update().filter_by(digest=judgement.look.digest)
        connection.execute(change.values(state=state, reason=judgement.suspect, judged=True))


def _replace_alerts(connection: Connection, telling: Telling) -> None:
    _await_verdicts(connection)
    shown, course = telling.history.alerts, telling.history.places
    left = retired(_answered(connection), telling.names)
    borne = {**left, **{telling.names[key]: place.alert for key, place in course.items()}}
    named = [{"name": name, "alert": alert_bytes(alert)} for name, alert in borne.items()]
    connection.execute(alerts.delete())
    _insert(connection, alerts, [_alert_row(alert, telling.names[alert.alert_id], course[alert.alert_id]) for alert in shown])
    if named:
        connection.execute(names.delete().where(names.c.name == sa.bindparam("gone")), [{"gone": row["name"]} for row in named])
    _insert(connection, names, named)
    _heed_verdicts(connection)


def _await_verdicts(connection: Connection) -> None:
    """Who says something of an alert and who replaces the alerts go one after the other, in PostgreSQL too."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("LOCK TABLE verdicts IN SHARE ROW EXCLUSIVE MODE"))


def _heed_verdicts(connection: Connection) -> None:
    """What was said while a pass was at work counts as well."""
    dismissed = sa.select(verdicts.c.name).filter_by(verdict="dismissed")
    connection.execute(alerts.update().where(alerts.c.name.in_(dismissed)).values(status="dismissed"))
    stale = (alerts.c.status == "dismissed") & alerts.c.name.not_in(dismissed)
    connection.execute(alerts.update().where(stale).values(status=alerts.c.course))


def _insert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        connection.execute(table.insert(), list(rows))


def _alert_row(alert: Alert, name: str, place: Place) -> dict[str, Any]:
    return {
        "name": name,
        "status": alert.status,
        "course": place.alert.status,
        "geometry": to_wkb(alert.geometry),
        "families": ",".join(alert.families),
        **{key: getattr(alert, key) for key in (*LISTED, *COUNTED)},
    }


def _observation_row(place: Place) -> dict[str, Any]:
    moment, digest = place.order
    return {"alert_id": place.alert.alert_id, "moment": moment, "digest": digest, "place": place_bytes(place)}


def _transition_row(move: Transition) -> dict[str, Any]:
    return {
        "alert_id": move.alert_id,
        "moment": move.moment,
        "digest": move.digest,
        "scene": move.scene,
        "before": move.before,
        "after": move.after,
    }


def _detection_rows(judgement: Judgement) -> list[dict[str, Any]]:
    return [
        {
            "digest": judgement.look.digest,
            "number": number,
            "geometry": to_wkb(found.geometry),
            "score": float(found.score),
            "p_value": float(found.p_value),
            "families": ",".join(found.families),
            "area": found.area,
            "reason": found.reason,
            "cells": cells_bytes(found.cells),
        }
        for number, found in enumerate(judgement.detections)
    ]


def _detection(row: Row[Any]) -> Detection:
    return Detection(
        cells=cells_from(row.cells),
        geometry=from_wkb(row.geometry),
        score=row.score,
        p_value=row.p_value,
        families=tuple(row.families.split(",")) if row.families else (),
        area=row.area,
        reason=row.reason,
    )


def _with_status(alert: Alert, status: Any) -> Alert:
    return replace(alert, status=status)
