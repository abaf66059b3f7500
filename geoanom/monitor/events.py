"""What is told of a history, to whom it matters, once.

An event's id is a hash of what it says (the alert's name, the step), so that the same step is the same event in every run. An alert's
name is its id, unless it took over the name of another: when a late or reprocessed scene changes where or when something began, its alert
gets another id, and keeps the name under which people have been told of it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import shapely

from geoanom.layer.features import significant
from geoanom.monitor.values import Event

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from shapely.geometry.base import BaseGeometry

    from geoanom.monitor.history import History, Place, Transition, Verdict
    from geoanom.monitor.values import Alert, Cell, EventType, Judgement, Status

DECIMALS = 7
"""Of coordinates, as RFC 7946 advises."""
LISTED = 500
"""Alerts that a digest names; it counts all."""
TYPES: Mapping[Status, EventType] = {"persistent": "alert.persistent", "resolved": "alert.resolved"}
"""Of an alert that has begun before."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What has been said before: by the monitor, and by people."""

    named: Mapping[str, Alert] = field(default_factory=dict)
    """By name, every alert that ever had one, as it was last."""
    told: Collection[str] = ()
    """Ids of the events that were told, or folded into a digest."""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """By name."""


@dataclass(frozen=True, kw_only=True)
class Telling:
    """What one pass has to tell."""

    history: History
    """With the verdicts of people."""
    names: Mapping[str, str]
    """Name of each alert, by id."""
    events: tuple[Event, ...]
    """By moment."""
    folded: tuple[Event, ...] = ()
    """Events that a digest among `events` stands for."""


def tell(history: History, judgements: Sequence[Judgement], said: Said, max_alerts: int | None = None) -> Telling:
    """What is new for the people who are told.

    Args:
        history: folded from the judgements.
        judgements: of the looks that were judged in this pass.
        said: before.
        max_alerts: more new alerts than these are told in one digest.
    """
    names = names_of(said.named, history.alerts)
    history = replace(history, verdicts={key: said.verdicts[name] for key, name in names.items() if name in said.verdicts})
    silent = {name for key, name in names.items() if history.is_dismissed(key)}
    found = events_of(history.moves, history.log, judgements, history.monitor, names)
    gone = [_withdrawal(name, said.named[name], history.monitor) for name in _unborne(said, names)]
    fresh = [event for event in in_order([*found, *gone]) if event.event_id not in said.told and _subject(event) not in silent]
    events, folded = capped(fresh, history.monitor, max_alerts)
    return Telling(history=history, names=names, events=events, folded=folded)


def _unborne(said: Said, names: Mapping[str, str]) -> list[str]:
    """Names of open alerts of which nothing is left, and that nobody has dismissed."""
    dismissed = {name for name, verdict in said.verdicts.items() if verdict.verdict == "dismissed"}
    left = sorted(set(said.named) - set(names.values()) - dismissed)
    return [name for name in left if said.named[name].status in ("new", "persistent")]


def _subject(event: Event) -> str:
    """The name of the alert that an event speaks of; empty for other events."""
    return str(event.body["data"].get("alert_id", ""))


def names_of(named: Mapping[str, Alert], alerts: Iterable[Alert]) -> dict[str, str]:
    """The name of each alert, by id: that of the alert it was when people were told, else its id.

    An alert takes over a name if it shares cells and time with the alert that bore it; first those that have kept their id, then those
    that share most cells. A free id serves as name; if it is the name of another alert, a hash of id, beginning and a number does.
    """
    current = {alert.alert_id: alert for alert in alerts}
    names: dict[str, str] = {}
    taken: set[str] = set()
    for name, alert_id in sorted(_heirs(named, current), key=lambda pair: _claim(pair, named, current)):
        if alert_id not in names and name not in taken:
            names[alert_id] = name
            taken.add(name)
    taken |= set(named)
    for key, alert in current.items():
        if key not in names:
            names[key] = next(name for name in _free(key, alert) if name not in taken)
            taken.add(names[key])
    return names


def _free(key: str, alert: Alert) -> Iterator[str]:
    """Names that an alert may get, in turn."""
    yield key
    yield from (_hash(key, alert.first_detected, str(k))[:16] for k in itertools.count())


def retired(said: Said, names: Mapping[str, str]) -> dict[str, Alert]:
    """Bearers of names whose withdrawal is told: without heirs, so that what comes back is told as new, and under another name.

    Args:
        said: before.
        names: of the alerts that there are, by id.
    """
    return {name: replace(said.named[name], status="resolved", cells=frozenset()) for name in _unborne(said, names)}


def _heirs(named: Mapping[str, Alert], current: Mapping[str, Alert]) -> Iterator[tuple[str, str]]:
    """Pairs of a name and an alert that shares cells and time with its bearer."""
    at: dict[Cell, list[str]] = {}
    for key, alert in current.items():
        for cell in alert.cells:
            at.setdefault(cell, []).append(key)
    for name, bearer in named.items():
        for key in {key for cell in bearer.cells for key in at.get(cell, ())}:
            alert = current[key]
            if alert.first_detected <= bearer.last_detected and bearer.first_detected <= alert.last_detected:
                yield name, key


def _claim(pair: tuple[str, str], named: Mapping[str, Alert], current: Mapping[str, Alert]) -> tuple[bool, int, str, str, str]:
    bearer, alert = named[pair[0]], current[pair[1]]
    return bearer.alert_id != alert.alert_id, -len(bearer.cells & alert.cells), alert.first_detected, *pair


def events_of(
    transitions: Iterable[Transition], states: Iterable[Place], judgements: Iterable[Judgement], monitor: str, names: Mapping[str, str]
) -> list[Event]:
    """Events of alerts that begin, persist or end, and of looks that are suspect, by moment.

    Args:
        transitions: those to tell.
        states: of the places after each look that caused a transition; a transition without its state is of another pass.
        judgements: of the same pass.
        monitor: name of the monitor.
        names: of the alerts, by id.
    """
    after = {(place.alert.alert_id, place.order): place.alert for place in states}
    steps = [(move, after.get((move.alert_id, (move.moment, move.digest)))) for move in transitions]
    alerts = [_alert_event(move, alert, monitor, names[move.alert_id]) for move, alert in steps if alert is not None]
    return in_order([*alerts, *(_suspect_event(judgement, monitor) for judgement in judgements if judgement.suspect is not None)])


def in_order(events: Iterable[Event]) -> list[Event]:
    """By moment, type and id."""
    return sorted(events, key=lambda event: (event.moment, event.type, event.event_id))


def capped(events: Sequence[Event], monitor: str, max_alerts: int | None) -> tuple[tuple[Event, ...], tuple[Event, ...]]:
    """The events, or those left when too many new alerts are told in one digest, and what the digest stands for."""
    begun = {_subject(event) for event in events if event.type == "alert.new"}
    if max_alerts is None or len(begun) <= max_alerts:
        return tuple(events), ()
    folded = [event for event in events if _subject(event) in begun]
    others = [event for event in events if _subject(event) not in begun]
    return tuple(in_order([*others, _digest_event(folded, monitor)])), tuple(folded)


def _alert_event(move: Transition, alert: Alert, monitor: str, name: str) -> Event:
    kind = "alert.new" if move.before is None else TYPES[move.after]
    return _event(kind, move.moment, alert_data(alert, name, monitor), name, kind)


def _withdrawal(name: str, alert: Alert, monitor: str) -> Event:
    """People who were told of an alert hear that nothing is left of it."""
    data = {
        **alert_data(alert, name, monitor),
        "status": "resolved",
        "reason": "withdrawn: nothing of it is left, now that scenes came late or were judged again",
    }
    return _event("alert.resolved", alert.last_observed, data, name, "alert.resolved")


def _suspect_event(judgement: Judgement, monitor: str) -> Event:
    look = judgement.look
    data = {
        "scene": look.scene,
        "digest": look.digest,
        "reason": judgement.suspect,
        **_place(look.footprint),
        "monitor": monitor,
    }
    return _event("scene.suspect", look.moment, data, monitor, "scene.suspect", look.digest)


def _digest_event(folded: Sequence[Event], monitor: str) -> Event:
    """One event for many alerts: the state that each has reached, the strongest first."""
    last = {event.body["data"]["alert_id"]: event.body["data"] for event in folded}
    ranked = sorted(last.values(), key=lambda data: (-data["max_score"], data["alert_id"]))
    kept = ("alert_id", "status", "lon", "lat", "score", "first_detected", "area", "scene")
    listed = [{key: data[key] for key in kept} for data in ranked[:LISTED]]
    data = {"monitor": monitor, "count": len(ranked), "alerts": listed}
    return _event("digest", max(event.moment for event in folded), data, monitor, "digest", *sorted(last))


def alert_data(alert: Alert, name: str, monitor: str) -> dict[str, Any]:
    """What a message says of an alert."""
    return {
        "alert_id": name,
        "status": alert.status,
        "confidence": alert.confidence,
        **_place(alert.geometry),
        "score": significant(alert.score),
        "max_score": significant(alert.max_score),
        "first_detected": alert.first_detected,
        "last_detected": alert.last_detected,
        "last_observed": alert.last_observed,
        "n_detections": alert.n_detections,
        "n_valid_observations": alert.n_valid_observations,
        "families": list(alert.families),
        "scene": alert.scene,
        "area": alert.area,
        "reason": alert.reason,
        "monitor": monitor,
    }


def _place(geometry: BaseGeometry) -> dict[str, Any]:
    """A point inside, and the geometry as GeoJSON."""
    point = shapely.point_on_surface(geometry)
    rounded = shapely.transform(geometry, lambda points: points.round(DECIMALS))
    return {"lon": round(point.x, DECIMALS), "lat": round(point.y, DECIMALS), "geometry": json.loads(shapely.to_geojson(rounded))}


def _event(kind: EventType, moment: str, data: Mapping[str, Any], *identity: str) -> Event:
    event_id = _hash(*identity)
    return Event(event_id=event_id, type=kind, moment=moment, body={"type": kind, "id": event_id, "timestamp": moment, "data": data})


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
