"""What is known of all places after some number of looks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from geoanom.monitor.values import Alert, Cell, Status


@dataclass(frozen=True, kw_only=True)
class LifecycleRules:
    """How much must be seen before something is said."""

    confirm_after: int = 2
    """Days (UTC) with a detection that make an alert persistent."""
    resolve_after: int = 2
    """Days with a clear look and no detection since the last one that make it resolved."""
    min_valid_fraction: float = 0.5
    """Mean valid share of an alert's cells below which a look has not seen it."""
    areas: Mapping[str, LifecycleRules] = field(default_factory=dict)
    """Those of areas that have rules of their own, by the areas' names."""

    def of(self, area: str) -> LifecycleRules:
        """The rules that hold in an area."""
        return self.areas.get(area, self)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a person says of an alert."""

    alert_id: str
    verdict: Literal["dismissed", "confirmed"]
    moment: str
    """When it was said, ``2024-05-01T10:30:00Z``."""
    author: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Transition:
    """An alert's step from one status to the next."""

    alert_id: str
    moment: str
    """Acquisition of the look that caused it; for a dismissal, when it was said."""
    digest: str
    """Of that look; empty for a dismissal."""
    scene: str
    before: Status | None
    """None where the alert begins."""
    after: Status


@dataclass(frozen=True, kw_only=True)
class Place:
    """An alert as the looks alone tell it, and what the next look has to know about it."""

    alert: Alert
    """Never dismissed: who dismisses an alert does not remove the thing."""
    anchor: Cell
    """Block of cells that holds the median cell of its first detection."""
    episode: int
    """Counts the alerts of an anchor, from 1."""
    order: tuple[str, str]
    """Moment and digest of the last look that saw the place."""
    days: int
    """With a detection."""
    clear_days: int = 0
    """Without one, since the last."""
    clear_day: str = ""
    """The last of them."""


@dataclass(frozen=True, kw_only=True)
class History:
    """All places, after some number of looks."""

    monitor: str
    places: Mapping[str, Place] = field(default_factory=dict)
    """By alert id, in the order of their beginning."""
    log: tuple[Place, ...] = ()
    """Every state of every place since the history was begun or taken up, in order; the last of each is in `places`."""
    moves: tuple[Transition, ...] = ()
    """Transitions since then, as the looks alone tell them."""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """By alert id."""
    order: tuple[str, str] = ("", "")
    """Of the last look."""

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """Alerts as people see them, by first detection and id."""
        shown = [self._shown(place.alert) for place in self.places.values()]
        return tuple(sorted(shown, key=lambda alert: (alert.first_detected, alert.alert_id)))

    @property
    def transitions(self) -> tuple[Transition, ...]:
        """Transitions as people see them: a dismissal is the last one of its alert."""
        return shown_transitions(self.moves, self.verdicts)

    def is_dismissed(self, alert_id: str) -> bool:
        """Has a person dismissed it?"""
        return alert_id in self.verdicts and self.verdicts[alert_id].verdict == "dismissed"

    def _shown(self, alert: Alert) -> Alert:
        return replace(alert, status="dismissed") if self.is_dismissed(alert.alert_id) else alert


def shown_transitions(moves: Iterable[Transition], verdicts: Mapping[str, Verdict]) -> tuple[Transition, ...]:
    """Transitions as people see them, where these are all transitions of the alerts that verdicts speak of."""
    kept = [move for move in moves if move.alert_id not in verdicts or _counts(move, verdicts[move.alert_id])]
    last = {move.alert_id: move for move in kept}
    dismissals = [_dismissal(last[name], verdict) for name, verdict in verdicts.items() if verdict.verdict == "dismissed" and name in last]
    return tuple(sorted([*kept, *dismissals], key=lambda move: (move.moment, move.after == "dismissed", move.digest, move.alert_id)))


def _counts(move: Transition, verdict: Verdict) -> bool:
    return verdict.verdict != "dismissed" or move.moment <= verdict.moment or move.before is None


def _dismissal(last: Transition, verdict: Verdict) -> Transition:
    return Transition(alert_id=last.alert_id, moment=verdict.moment, digest="", scene="", before=last.after, after="dismissed")
