"""Figures of a monitor as a textfile for Prometheus' node exporter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from geoanom.errors import ConfigError
from geoanom.layer.atomic import atomic_file
from geoanom.monitor.values import Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from prometheus_client.metrics_core import Metric


@dataclass(frozen=True, kw_only=True)
class Figures:
    """How a monitor is."""

    monitor: str
    """Its name."""
    last_success: float | None
    """End of the last pass that did all it had to, in seconds since 1970."""
    newest: float | None
    """Acquisition of the newest look, in seconds since 1970."""
    now: float
    """Seconds since 1970."""
    looks: int
    alerts: Mapping[Status, int] = field(default_factory=dict)
    undelivered: Mapping[str, int] = field(default_factory=dict)
    """Events that wait, by sink."""
    given_up: Mapping[str, int] = field(default_factory=dict)
    """Events that a sink refused for good, by sink."""
    suspect_scenes: int = 0
    refused_scenes: int = 0
    drift: float | None = None
    """How far the newest looks are from what the model was fitted on: the drift monitor's statistic."""


def write_metrics(path: Path, figures: Figures) -> None:
    """Write the figures; the file is replaced at once, and other monitors may write theirs beside it.

    Raises:
        ConfigError: prometheus-client is not installed.
        OutputError: the file could not be written.
    """
    try:
        from prometheus_client import CollectorRegistry, generate_latest
    except ImportError as error:
        raise ConfigError("metrics", "needs prometheus-client", "pip install 'geoanom[metrics]'") from error
    registry = CollectorRegistry()
    registry.register(_Collector(figures))
    with atomic_file(path) as temporary:
        temporary.write_bytes(generate_latest(registry))


class _Collector:
    """Hands the figures to the library."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """The families, in a fixed order; what is not known is left out."""
        told, lag_s = self._figures, None if self._figures.newest is None else self._figures.now - self._figures.newest
        yield self._gauge("last_success_timestamp_seconds", "End of the last pass that did all it had to", told.last_success)
        yield self._gauge("lag_seconds", "Age of the newest acquisition that was looked at", lag_s)
        yield self._counter("looks", "Looks that are remembered", told.looks)
        yield self._counter("suspect_scenes", "Scenes that were not to be trusted as a whole", told.suspect_scenes)
        yield self._counter("refused_scenes", "Scenes that could not be read", told.refused_scenes)
        yield self._gauge("drift", "How far the newest looks are from what the model was fitted on", told.drift)
        yield self._by("alerts", "Alerts by status", "status", {status: told.alerts.get(status, 0) for status in get_args(Status)})
        yield self._by("undelivered", "Events that wait for a sink", "sink", told.undelivered)
        yield self._by("given_up", "Events that a sink refused for good", "sink", told.given_up)

    def _gauge(self, name: str, says: str, value: float | None) -> Metric:
        return self._by(name, says, None, {} if value is None else {"": value})

    def _counter(self, name: str, says: str, value: float) -> Metric:
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(f"geoanom_monitor_{name}", says, labels=["monitor"])
        family.add_metric([self._figures.monitor], value)
        return family

    def _by(self, name: str, says: str, label: str | None, values: Mapping[str, float]) -> Metric:
        from prometheus_client.core import GaugeMetricFamily

        family = GaugeMetricFamily(f"geoanom_monitor_{name}", says, labels=["monitor", *([label] if label else [])])
        for key, value in values.items():
            family.add_metric([self._figures.monitor, *([key] if label else [])], value)
        return family
