"""What an event says to people, in plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geoanom.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geoanom.monitor.values import Event

HEADLINES = {
    "alert.new": "something has changed",
    "alert.persistent": "a change persists",
    "alert.resolved": "a change is over",
    "scene.suspect": "a scene is not to be trusted",
}
FACTS = {
    "area": "area",
    "reason": "why",
    "score": "score",
    "confidence": "confidence",
    "first_detected": "first seen",
    "last_detected": "last seen",
    "n_detections": "times seen",
    "scene": "scene",
    "alert_id": "alert",
}
"""What is told of an alert or a scene, and its name."""
LISTED = 20
"""Alerts of a digest that a message names."""


def headline(event: Event) -> str:
    """What has happened, and where, on one line."""
    data = event.body["data"]
    what = f"{data.get('count', 0)} places have changed" if event.type == "digest" else HEADLINES[event.type]
    area = f" in {data['area']}" if data.get("area") else ""
    return one_line(f"[{data.get('monitor', 'geoanom')}] {what}{area}{_at(data, ' at ')}")


def lines(event: Event) -> list[str]:
    """What is known of it, a fact a line; no line breaks within."""
    data = event.body["data"]
    known = [f"{name}: {data[key]}" for key, name in FACTS.items() if data.get(key) not in (None, "")]
    return [one_line(line) for line in [*known, *_listed(data)]]


def _listed(data: Mapping[str, Any]) -> list[str]:
    """The strongest alerts of a digest."""
    alerts = data.get("alerts", ())
    told = [f"{entry['alert_id']}: score {entry['score']}{_at(entry, ', ')}" for entry in alerts[:LISTED]]
    n_more = data.get("count", len(alerts)) - len(told)
    return [*told, f"and {n_more} more"] if n_more > 0 else told


def _at(data: Mapping[str, Any], lead: str) -> str:
    """Latitude and longitude, as maps take them in their search."""
    return f"{lead}{data['lat']:.5f}, {data['lon']:.5f}" if data.get("lat") is not None and data.get("lon") is not None else ""
