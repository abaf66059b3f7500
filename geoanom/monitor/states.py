"""Alerts as they stand, in the words of messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geoanom.monitor.events import alert_data

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geoanom.monitor.settings import Monitor
    from geoanom.monitor.store import Store


def states(store: Store, monitor: Monitor) -> list[Mapping[str, Any]]:
    """All alerts, each as the data of a message about it."""
    return [{**alert_data(alert, name, monitor.name), **link_to(monitor, name)} for name, alert in store.alerts().items()]


def link_to(monitor: Monitor, name: str = "") -> dict[str, str]:
    """Where an alert, or all of them, are shown on the page, if that is published."""
    if not monitor.report_url:
        return {}
    url = monitor.report_url.partition("#")[0]
    return {"report": f"{url}#{name}" if name else url}
