"""What a pass leaves behind: figures, a page, and no more memory than is asked for."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

from geoanom.monitor.drift import drift_of
from geoanom.monitor.status import figures_of, moment_at, status_of

if TYPE_CHECKING:
    from geoanom.monitor.settings import Monitor, Retention
    from geoanom.monitor.store import Store


def take_stock(store: Store) -> None:
    """Measure the drift of the newest looks."""
    drift = drift_of(store, frozenset(json.loads(store.facts().get("fitted", "[]"))))
    if drift is not None:
        store.put_facts(drift=json.dumps(drift.as_json()))


def remember_less(store: Store, retention: Retention, now: float) -> None:
    """Forget what is older than is asked for, seen from the newest look, and from now (seconds since 1970) where that is earlier."""
    newest = store.standing().newest
    if newest is None:
        return
    newest = min(newest, moment_at(now))  # one wrong date must not end all memory
    if retention.looks_days is not None:
        store.forget_cells(_before(newest, retention.looks_days))
    if retention.events_days is not None:
        store.forget_events(_before(newest, retention.events_days))


def leave(store: Store, monitor: Monitor, now: float) -> None:
    """Write figures and page, where they are asked for.

    Raises:
        ConfigError: prometheus-client is not installed.
        OutputError: one could not be written.
    """
    if monitor.metrics is not None:
        from geoanom.monitor.metrics import write_metrics

        write_metrics(monitor.metrics, figures_of(status_of(store, monitor, now), now))
    if monitor.page is not None:
        from geoanom.monitor.page import write_page

        write_page(store, monitor, now)


def _before(moment: str, days: int) -> str:
    earlier = dt.datetime.fromisoformat(moment) - dt.timedelta(days=days)
    return earlier.replace(tzinfo=None).isoformat() + "Z"
