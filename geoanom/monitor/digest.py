"""All of a pass, or of a period, in one message.

What waits for the end of a period stands in the monitor's facts, and counts as told: the outbox knows its ids. A pass that dies between
the two finds the same events again, by which those that were never told are known.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from geoanom.monitor.events import LISTED, in_order
from geoanom.monitor.schedule import minutes_of
from geoanom.monitor.values import Event

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from geoanom.monitor.events import Telling
    from geoanom.monitor.settings import Digest
    from geoanom.monitor.store import Store

FACT = "digest"
KEPT = ("alert_id", "status", "lon", "lat", "score", "first_detected", "area", "scene")
MOST_SCENES = 10
"""Suspect scenes that a digest names."""


def digested(telling: Telling, store: Store, digest: Digest, monitor: str, *, told: Collection[str], now: float) -> Telling:
    """The same news as one event, or as none while the period lasts; what waits is kept in the store's facts.

    Args:
        telling: what is new.
        store: of the monitor.
        digest: the period.
        monitor: its name.
        told: ids of the events in the outbox.
        now: seconds since 1970.
    """
    fresh = telling.events
    waiting = in_order({event.event_id: event for event in (*_held(store, told), *fresh)}.values())
    if not waiting:
        return telling
    is_due, event = _is_due(store, digest, now), digest_of(waiting, monitor)
    made = event.event_id if is_due else ""
    last = now if is_due else _facts(store).get("last")
    store.put_facts(**{FACT: json.dumps({"held": [asdict(each) for each in waiting], "made": made, "last": last})})
    return replace(telling, events=(event,) if is_due else (), folded=tuple(fresh))


def due_digest(store: Store, digest: Digest | None, *, told: Collection[str]) -> Digest | None:
    """The digest that is asked for; without one, a last one at once for what still waits."""
    from geoanom.monitor.settings import Digest

    return Digest() if digest is None and _held(store, told) else digest


def is_overdue(store: Store, digest: Digest | None, *, told: Collection[str], now: float) -> bool:
    """Is there something to tell, although nothing is new?"""
    asked = due_digest(store, digest, told=told)
    return asked is not None and bool(_held(store, told)) and _is_due(store, asked, now)


def digest_of(events: Sequence[Event], monitor: str) -> Event:
    """One event for several: the state that each alert has reached, the strongest first, and scenes that are not to be trusted."""
    last = {event.body["data"]["alert_id"]: event.body["data"] for event in events if "alert_id" in event.body["data"]}
    ranked = sorted(last.values(), key=lambda data: (-data["max_score"], data["alert_id"]))
    listed = [{key: data[key] for key in KEPT} for data in ranked[:LISTED]]
    data = {"monitor": monitor, "count": len(ranked), "alerts": listed, **_suspects(events)}
    ids = sorted(event.event_id for event in events)
    event_id = hashlib.sha256("\n".join([monitor, "digest", *ids]).encode()).hexdigest()[:32]
    moment = max(event.moment for event in events)
    return Event(
        event_id=event_id,
        type="digest",
        moment=moment,
        body={"type": "digest", "id": event_id, "timestamp": moment, "data": data},
    )


def _suspects(events: Iterable[Event]) -> dict[str, Any]:
    told = [event.body["data"] for event in events if event.type == "scene.suspect"]
    if not told:
        return {}
    shown = "; ".join(f"{data['scene']}: {data['reason']}" for data in told[:MOST_SCENES])
    more = f"; and {len(told) - MOST_SCENES} more" if len(told) > MOST_SCENES else ""
    return {"n_suspect": len(told), "reason": f"scenes that are not to be trusted: {shown}{more}"}


def _facts(store: Store) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(store.facts().get(FACT, "{}"))
    return tree


def _held(store: Store, told: Collection[str]) -> list[Event]:
    """What waits for a digest: not what one has told, and not what never came to be."""
    facts = _facts(store)
    if facts.get("made") in told:
        return []
    return [Event(**tree) for tree in facts.get("held", ()) if tree["event_id"] in told]


def _is_due(store: Store, digest: Digest, now: float) -> bool:
    """A clock that was put back makes it due at once rather than never."""
    last = _facts(store).get("last")
    return digest.every is None or last is None or not last <= now < last + 60 * minutes_of(digest.every)
