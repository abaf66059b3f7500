"""What messages carry besides the facts: pictures, links, and how many there are."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from geoanom.monitor.digest import digested, due_digest
from geoanom.monitor.states import link_to

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from geoanom.monitor.events import Telling
    from geoanom.monitor.settings import Monitor
    from geoanom.monitor.store import Store
    from geoanom.monitor.thumbnails import Photographer
    from geoanom.monitor.values import Alert, Event
    from geoanom.raster.scene import Scene

log = logging.getLogger(__name__)
MOST_PICTURED = 50
"""Events of a pass that carry pictures."""


def dressed(
    telling: Telling, store: Store, monitor: Monitor, open_scene: Callable[[str], Scene], *, told: Collection[str], now: float
) -> Telling:
    """The news as they go out: in a digest where that is asked for, with links and pictures.

    Args:
        telling: the bare news.
        store: of the monitor.
        monitor: its settings.
        open_scene: a scene by the path of its look.
        told: ids of the events in the outbox.
        now: seconds since 1970.
    """
    digest = due_digest(store, monitor.digest, told=told)
    if digest is not None:
        telling = digested(telling, store, digest, monitor.name, told=told, now=now)
    linked = [_linked(event, monitor) for event in telling.events]
    if monitor.thumbnails and any("alert_id" in event.body["data"] for event in linked):
        linked = _pictured(linked, telling, store, open_scene)
    return replace(telling, events=tuple(linked))


def _linked(event: Event, monitor: Monitor) -> Event:
    return _with(event, link_to(monitor, event.body["data"].get("alert_id", "")))


def _pictured(events: list[Event], telling: Telling, store: Store, open_scene: Callable[[str], Scene]) -> list[Event]:
    from geoanom.monitor.thumbnails import Photographer

    photographer = Photographer(store=store, entries=store.entries(), open=open_scene)
    alerts = {name: telling.history.places[key].alert for key, name in telling.names.items()}
    found: list[Event] = []
    for event in events:
        alert = alerts.get(event.body["data"].get("alert_id", ""))
        found.append(event if alert is None or len(found) >= MOST_PICTURED else _with(event, _pictures(photographer, event, alert)))
    return found


def _pictures(photographer: Photographer, event: Event, alert: Alert) -> Mapping[str, str]:
    """A message goes out without pictures rather than not at all."""
    try:
        return photographer.pictures(event, alert)
    except Exception:
        log.debug("no pictures of %s", event.event_id, exc_info=True)
        return {}


def _with(event: Event, more: Mapping[str, Any]) -> Event:
    data = {**event.body["data"], **more}
    return replace(event, body={**event.body, "data": data})
