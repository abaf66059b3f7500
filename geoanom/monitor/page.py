"""The state of a monitor as one HTML file: no script, no link that loads anything, and every word of a name escaped."""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import shapely

from geoanom.errors import OutputError, one_line
from geoanom.layer.atomic import atomic_file
from geoanom.monitor.courses import MOST_DOTS, courses_of
from geoanom.monitor.events import alert_data
from geoanom.monitor.status import moment_at, status_lines, status_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from geoanom.monitor.courses import Course
    from geoanom.monitor.settings import Monitor
    from geoanom.monitor.store import Store

Bounds = tuple[float, float, float, float]
"""West, south, east, north, in degrees."""
LIMIT = 200
"""Alerts on the page: the open ones first, then the newest."""
ORDER = ("new", "persistent", "resolved", "dismissed")
FACTS = {
    "reason": "why",
    "area": "area",
    "confidence": "confidence",
    "score": "last score",
    "max_score": "highest score",
    "first_detected": "first seen",
    "last_detected": "last seen",
    "last_observed": "last looked at",
    "n_detections": "times seen",
    "n_valid_observations": "times looked at",
    "families": "found by",
    "scene": "scene",
}
TIMELINE = 1000
LEAST_DEGREES = 1e-6
MAP_WIDTH, MAP_HEIGHT, MAP_MARGIN = 1000.0, 260.0, 20.0
KEY = (("detected", "found"), ("clear", "looked at, nothing found"), ("unseen", "not to be seen: clouds, or not in the scene"))


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the page shows."""

    status: Mapping[str, Any]
    """As `status_of` tells it."""
    alerts: Sequence[Mapping[str, Any]]
    """Each as the data of a message, in the order of the page."""
    courses: Mapping[str, Course]
    """By the alerts' names."""
    pictures: Mapping[str, Mapping[str, str]]
    """Base64 of PNGs by the alerts' names: ``thumbnail_before``, ``thumbnail_after``."""
    n_alerts: int
    """In all."""
    extent: Bounds | None
    """Of all looks."""
    now: float
    """Seconds since 1970."""


def write_page(store: Store, monitor: Monitor, now: float) -> None:
    """Write the page of a monitor's state.

    Raises:
        OutputError: it could not be written.
    """
    if monitor.page is None:
        return
    text = page_of(shown_of(store, monitor, now))
    with atomic_file(monitor.page) as temporary:
        temporary.write_text(text, "utf-8", newline="\n")
        if temporary.read_text("utf-8") != text:
            raise OutputError(monitor.page, "does not read back after writing", "check the disk")


def shown_of(store: Store, monitor: Monitor, now: float) -> Shown:
    """What the page shows of a store."""
    alerts = store.alerts()
    ranked = sorted(alerts, key=lambda name: (ORDER.index(alerts[name].status), _latest_first(alerts[name].last_detected), name))[:LIMIT]
    return Shown(
        status=status_of(store, monitor, now),
        alerts=[alert_data(alerts[name], name, monitor.name) for name in ranked],
        courses=courses_of(store, {name: alerts[name] for name in ranked}),
        pictures=_pictures(store, set(ranked)),
        n_alerts=len(alerts),
        extent=_extent(store),
        now=now,
    )


def page_of(shown: Shown) -> str:
    """The page's text; equal content gives an equal page."""
    style = (files("geoanom.monitor") / "static" / "page.css").read_text("utf-8")
    name = _text(shown.status["monitor"])
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{_sha256(style)}'; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        f'<meta name="referrer" content="no-referrer">\n<title>{name}: what has changed</title>\n<link rel="icon" href="data:,">\n'
        f'<style>{style}</style>\n</head>\n<body>\n<a class="skip" href="#alerts">Skip to the alerts</a>\n'
        f'<header>\n<h1>{name}</h1>\n<p class="muted">as of {_text(moment_at(shown.now))}</p>\n{_counts(shown.status)}</header>\n'
        f"<main>\n{_status(shown)}{_map(shown)}{_alerts(shown)}</main>\n</body>\n</html>\n"
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _text(value: Any) -> str:
    """A value as text that is nothing else, whatever it holds."""
    shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return escape(one_line(shown).encode("utf-8", "backslashreplace").decode(), quote=True)


def _extent(store: Store) -> Bounds | None:
    footprints = [entry.footprint for entry in store.entries() if entry.state != "superseded"]
    return tuple(map(float, shapely.total_bounds(footprints))) if footprints else None  # type: ignore[return-value]


def _latest_first(moment: str) -> tuple[int, ...]:
    return tuple(-ord(character) for character in moment)


def _pictures(store: Store, names: set[str]) -> dict[str, dict[str, str]]:
    """The newest pictures that messages carried, those that show the thing rather than those in which it is gone."""
    found: dict[str, dict[str, str]] = {}
    ends: dict[str, dict[str, str]] = {}
    for event in store.each_event():
        data = event.body.get("data", {})
        own = {key: value for key, value in data.items() if key.startswith("thumbnail_")}
        if own and data.get("alert_id") in names:
            (ends if event.type == "alert.resolved" else found)[data["alert_id"]] = own
    return {**ends, **found}


def _counts(status: Mapping[str, Any]) -> str:
    items = "".join(f'<li><strong class="{kind}">{status["alerts"].get(kind, 0)}</strong>{kind}</li>\n' for kind in ORDER)
    return f'<ul class="counts">\n{items}<li><strong>{sum(status["looks"].values())}</strong>looks</li>\n</ul>\n'


def _status(shown: Shown) -> str:
    lines = "".join(f"<li>{_text(line)}</li>\n" for line in status_lines(shown.status, shown.now, public=True))
    return f'<section aria-labelledby="state">\n<h2 id="state">State of the monitor</h2>\n<ul class="status">\n{lines}</ul>\n</section>\n'


def _alerts(shown: Shown) -> str:
    if not shown.alerts:
        return '<section id="alerts">\n<h2>Alerts</h2>\n<p class="muted">Nothing has been told yet.</p>\n</section>\n'
    more = shown.n_alerts - len(shown.alerts)
    rest = f'<p class="muted">and {more} older ones</p>\n' if more else ""
    key = "".join(f'<li><svg viewBox="0 0 12 12" aria-hidden="true">{_dot(6, 6, state)}</svg>{words}</li>' for state, words in KEY)
    articles = "".join(_article(alert, shown) for alert in shown.alerts)
    return f'<section id="alerts">\n<h2>Alerts</h2>\n<ul class="key">{key}</ul>\n{articles}{rest}</section>\n'


def _article(alert: Mapping[str, Any], shown: Shown) -> str:
    name, status = str(alert["alert_id"]), alert["status"]
    facts = "".join(f"<dt>{words}</dt><dd>{_text(alert[key])}</dd>" for key, words in FACTS.items() if alert.get(key) not in (None, "", []))
    lon, lat = float(alert["lon"]), float(alert["lat"])
    osm = f"https://www.openstreetmap.org/?mlat={lat:.6f}&amp;mlon={lon:.6f}#map=15/{lat:.6f}/{lon:.6f}"
    place = f'<a href="{osm}" rel="noreferrer noopener">{lat:.5f}, {lon:.5f}</a> (<a href="geo:{lat:.6f},{lon:.6f}">geo:</a>)'
    return (
        f'<article id="{_text(name)}" data-alert-id="{_text(name)}" data-status="{_text(status)}">\n'
        f'<div class="head"><h3>{_text(name)}</h3><span class="tag {_text(status)}">{_text(status)}</span><span>{place}</span></div>\n'
        f'<div class="body"><dl class="facts">{facts}</dl>{_figures(shown.pictures.get(name, {}))}</div>\n'
        f"{_timeline(shown.courses.get(name))}</article>\n"
    )


def _figures(pictures: Mapping[str, str]) -> str:
    shown = [(which, pictures[f"thumbnail_{which}"]) for which in ("before", "after") if _is_base64(pictures.get(f"thumbnail_{which}"))]
    figures = "".join(
        f'<figure><img src="data:image/png;base64,{data}" alt="The place {which}" width="128" height="128">'
        f"<figcaption>{which}</figcaption></figure>"
        for which, data in shown
    )
    return f'<div class="pictures">{figures}</div>' if figures else ""


def _is_base64(text: str | None) -> bool:
    return bool(text) and all(character.isalnum() or character in "+/=" for character in text or "") and (text or "").isascii()


def _timeline(course: Course | None) -> str:
    """Dots by date: filled where the thing was found, hollow where the place was clear, small where it was not to be seen."""
    if course is None or not course.dots:
        return ""
    first, last = course.dots[0].seconds, course.dots[-1].seconds
    span = max(1.0, last - first)
    dots = "".join(
        _dot(10 + (TIMELINE - 20) * (dot.seconds - first) / span, 17, dot.state, f"{dot.moment[:10]}: {dot.words}, {dot.scene}")
        for dot in course.dots
    )
    told = ", ".join(f"{n} {words}" for words, n in course.counts.items())
    left_out = f", the newest {MOST_DOTS}" if course.left_out else ""
    label = f"Looks since it began{left_out}: {told}"
    return (
        f'<svg class="timeline" viewBox="0 0 {TIMELINE} 34" role="img" aria-label="{_text(label)}">'
        f'<line x1="0" y1="17" x2="{TIMELINE}" y2="17"></line>{dots}</svg>\n'
        f'<p class="ends"><span>{_text(course.dots[0].moment[:10])}</span><span>{_text(course.dots[-1].moment[:10])}</span></p>\n'
    )


def _dot(x: float, y: float, state: str, title: str = "") -> str:
    radius = 3 if state == "unseen" else 5
    words = f"<title>{_text(title)}</title>" if title else ""
    return f'<circle class="{state}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{words}</circle>'


def _map(shown: Shown) -> str:
    """Where the alerts are within what was looked at, north up, each a link to its entry."""
    if shown.extent is None or not shown.alerts:
        return ""
    west, south, east, north = shown.extent
    narrow = max(0.01, math.cos(math.radians((south + north) / 2)))
    width, height = max((east - west) * narrow, LEAST_DEGREES), max(north - south, LEAST_DEGREES)
    scale = min((MAP_WIDTH - 2 * MAP_MARGIN) / width, (MAP_HEIGHT - 2 * MAP_MARGIN) / height)

    def placed(lon: float, lat: float) -> tuple[float, float]:
        return MAP_WIDTH / 2 + (lon - (west + east) / 2) * narrow * scale, MAP_HEIGHT / 2 - (lat - (south + north) / 2) * scale

    left, top = placed(west, north)
    ground = f'<rect x="{left:.1f}" y="{top:.1f}" width="{MAP_WIDTH - 2 * left:.1f}" height="{MAP_HEIGHT - 2 * top:.1f}"></rect>'
    marks = "".join(_mark(*placed(float(alert["lon"]), float(alert["lat"])), alert) for alert in reversed(shown.alerts))
    label = "Places of the alerts in the extent of all scenes, north up"
    return (
        '<section aria-labelledby="where">\n<h2 id="where">Where</h2>\n'
        f'<svg class="map" viewBox="0 0 {MAP_WIDTH:g} {MAP_HEIGHT:g}" role="group" aria-label="{label}">{ground}{marks}</svg>\n</section>\n'
    )


def _mark(x: float, y: float, alert: Mapping[str, Any]) -> str:
    name, status = _text(alert["alert_id"]), _text(alert["status"])
    circle = f'<circle class="{status}" cx="{x:.1f}" cy="{y:.1f}" r="6"><title>{name}: {status}</title></circle>'
    return f'<a href="#{name}" aria-label="{name}, {status}">{circle}</a>'
