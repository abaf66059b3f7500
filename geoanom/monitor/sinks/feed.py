"""A GeoJSON file (RFC 7946) of the alerts as they stand: those that are open, and those that were resolved lately."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shapely.geometry import shape

from geoanom.errors import OutputError
from geoanom.layer.atomic import atomic_file
from geoanom.layer.geojson import Extent
from geoanom.monitor.sinks.base import Retryable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from geoanom.monitor.values import Event

    State = Callable[[], Iterable[Mapping[str, Any]]]
    """All alerts, each as the ``data`` of a message about it."""


class Feed:
    """Keeps a file up to date.

    It tells the state and not the events: so an event that comes twice changes nothing, and what people dismissed, of which there is no
    event, is not in it.
    """

    def __init__(self, path: Path, state: State, keep_days: int) -> None:
        """Keep the file at `path`; resolved alerts stay in it for some days of acquisition."""
        self._path, self._state, self._keep_days = path, state, keep_days

    def send(self, event: Event) -> None:  # noqa: ARG002 - a sink's signature
        """Bring it up to date.

        Raises:
            Retryable: it could not be written.
        """
        try:
            self.refresh()
        except OutputError as error:
            raise Retryable(str(error)) from None

    def refresh(self) -> None:
        """Bring it up to date, also where nothing is to be told.

        Raises:
            OutputError: it could not be written.
        """
        text = feed_text(self._state(), self._keep_days)
        if not self._says(text):
            with atomic_file(self._path) as temporary:
                temporary.write_text(text, "utf-8")

    def _says(self, text: str) -> bool:
        with suppress(OSError):
            return self._path.read_bytes() == text.encode()
        return False


def feed_text(alerts: Iterable[Mapping[str, Any]], keep_days: int) -> str:
    """The file's text: a function of the alerts, whatever their order."""
    by_id = {alert["alert_id"]: alert for alert in alerts}
    newest = max((alert["last_observed"] for alert in by_id.values()), default="")
    shown = [by_id[key] for key in sorted(by_id) if _is_shown(by_id[key], newest, keep_days)]
    extent = Extent()
    extent.add(shape(alert["geometry"]) for alert in shown)
    bbox = extent.bbox(in_pixels=False)
    features = ",\n".join(_dump(_feature(alert)) for alert in shown)
    head = '{"type":"FeatureCollection",' + (f'"bbox":{_dump(bbox)},' if bbox else "")
    return f'{head}"features":[\n{features}\n]}}\n'


def _is_shown(alert: Mapping[str, Any], newest: str, keep_days: int) -> bool:
    if alert["status"] != "resolved":
        return bool(alert["status"] != "dismissed")
    return datetime.fromisoformat(newest) - datetime.fromisoformat(alert["last_observed"]) <= timedelta(days=keep_days)


def _feature(alert: Mapping[str, Any]) -> dict[str, Any]:
    """Scalars as they are, short lists as text: what every GIS can show."""
    properties = {key: ", ".join(map(str, value)) if isinstance(value, list | tuple) else value for key, value in alert.items()}
    properties = {key: value for key, value in properties.items() if key != "geometry" and not isinstance(value, dict)}
    return {"type": "Feature", "id": alert["alert_id"], "geometry": alert["geometry"], "properties": properties}


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
