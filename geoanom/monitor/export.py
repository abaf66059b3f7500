"""The alerts of a monitor as a layer, in any format that layers have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geoanom.errors import ConfigError
from geoanom.layer.atomic import check_output
from geoanom.layer.features import Feature, Features, significant
from geoanom.monitor.events import DECIMALS
from geoanom.registry import EXPORTERS, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from geoanom.monitor.values import Alert

RASTER = ".tif"


def write_alerts(alerts: Mapping[str, Alert], path: Path, *, monitor: str, statuses: Collection[str] = (), overwrite: bool = False) -> int:
    """Write alerts; returns how many.

    Args:
        alerts: by name, in order.
        path: its suffix says the format.
        monitor: name of the monitor.
        statuses: of the alerts to write; all when empty.
        overwrite: replace an existing file.

    Raises:
        ConfigError: an unknown format, or one that cannot show alerts.
        OutputError: the file exists, or could not be written.
    """
    check_format(path)
    check_output(path, overwrite=overwrite)
    chosen = {name: alert for name, alert in alerts.items() if not statuses or alert.status in statuses}
    export: Callable[[Features, Path], None] = EXPORTERS.load(path.suffix.lower())
    export(features_of(chosen, monitor), path)
    return len(chosen)


def check_format(path: Path) -> None:
    """Refuse a format in which alerts cannot be written.

    Raises:
        ConfigError: it is unknown, or is one of rasters.
    """
    known = [name for name in EXPORTERS.names() if name != RASTER]
    if path.suffix.lower() == RASTER:
        raise ConfigError(path, "a raster cannot show alerts", f"choose one of {', '.join(known)}")
    if path.suffix.lower() not in known:
        raise unknown("layer format", path.suffix or path.name, known)


def features_of(alerts: Mapping[str, Alert], monitor: str) -> Features:
    """Alerts as features, the strongest of the open ones first."""
    order = {"new": 0, "persistent": 0, "resolved": 1, "dismissed": 2}
    ranked = sorted(alerts.items(), key=lambda pair: (order[pair[1].status], -pair[1].max_score, pair[0]))
    features = [Feature(alert.geometry, properties_of(alert, name, rank)) for rank, (name, alert) in enumerate(ranked, 1)]
    return Features(provenance={"monitor": monitor, "scenes": []}, in_pixels=False, stream=lambda: iter(features))


def properties_of(alert: Alert, name: str, rank: int) -> dict[str, Any]:
    """All properties of an alert, scalars only; `anomaly_id` is what layers know their features by."""
    point = alert.geometry.representative_point()
    return {
        "anomaly_id": name,
        "alert_id": name,
        "rank": rank,
        "status": alert.status,
        "confidence": alert.confidence,
        "first_detected": alert.first_detected,
        "last_detected": alert.last_detected,
        "last_observed": alert.last_observed,
        "n_detections": alert.n_detections,
        "n_valid_observations": alert.n_valid_observations,
        "max_score": significant(alert.max_score),
        "score": significant(alert.score),
        "area": alert.area,
        "scene": alert.scene,
        "families": ", ".join(alert.families),
        "reason": alert.reason,
        "lon": round(point.x, DECIMALS),
        "lat": round(point.y, DECIMALS),
    }
