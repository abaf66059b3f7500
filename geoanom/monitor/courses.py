"""What each look since an alert's beginning said of its place, for a timeline."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from geoanom.monitor.history import Place
    from geoanom.monitor.store import Store
    from geoanom.monitor.store.looks import LookEntry
    from geoanom.monitor.values import Alert

State = Literal["detected", "clear", "unseen"]
MOST_DOTS = 120
"""Looks that a timeline shows, the newest."""
EARLIER = 3
"""Looks before the first detection that it begins with."""
WORDS: Mapping[State, str] = {"detected": "found", "clear": "nothing found", "unseen": "not to be seen"}


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One look at a place."""

    moment: str
    scene: str
    state: State

    @property
    def seconds(self) -> float:
        """Since 1970."""
        return dt.datetime.fromisoformat(self.moment).timestamp()

    @property
    def words(self) -> str:
        """What it said."""
        return WORDS[self.state]


@dataclass(frozen=True, kw_only=True)
class Course:
    """What became of a place."""

    dots: tuple[Dot, ...]
    left_out: int = 0
    """Older looks that are not among the dots."""

    @property
    def counts(self) -> dict[str, int]:
        """Looks by what they said."""
        found = Counter(dot.words for dot in self.dots)
        return {words: found[words] for words in WORDS.values() if found[words]}


def courses_of(store: Store, alerts: Mapping[str, Alert]) -> dict[str, Course]:
    """The courses of alerts, by name."""
    entries = [entry for entry in store.entries() if entry.state != "superseded"]
    return {name: _course(store.observations(alert.alert_id), alert, entries) for name, alert in alerts.items()}


def _course(states: Sequence[Place], alert: Alert, entries: Sequence[LookEntry]) -> Course:
    said: dict[tuple[str, str], State] = {place.order: "clear" if place.clear_days else "detected" for place in states}
    point = alert.geometry.representative_point()
    own = [entry for entry in entries if (entry.moment, entry.digest) in said or entry.footprint.covers(point)]
    first = next((i for i, entry in enumerate(own) if entry.moment >= alert.first_detected), len(own))
    since = own[max(0, first - EARLIER) :]
    dots = [_dot(entry, said, alert) for entry in since]
    return Course(dots=tuple(dots[-MOST_DOTS:]), left_out=max(0, len(dots) - MOST_DOTS))


def _dot(entry: LookEntry, said: Mapping[tuple[str, str], State], alert: Alert) -> Dot:
    """What came before the beginning, or after the end, and was looked at, counts as clear."""
    outside = entry.moment < alert.first_detected or (alert.status == "resolved" and entry.moment > alert.last_observed)
    usual: State = "clear" if outside and entry.state == "used" else "unseen"
    return Dot(moment=entry.moment, scene=entry.scene, state=said.get((entry.moment, entry.digest), usual))
