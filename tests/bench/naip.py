"""Six real dates of one place as a series: what a monitor alerts, with pictures to look at."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from PIL import Image, ImageDraw
from rasterio.warp import transform_geom
from rasterio.windows import Window, from_bounds
from shapely.geometry import mapping, shape

from geoanom.monitor.store import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from station import Station

    from geoanom.monitor.values import Alert

AROUND_M = 150.0
PANEL = 360


def dates_of(data: Path | None) -> list[Path]:
    """The scenes, in order."""
    folders = [folder for folder in (data, data / "series" / "naip") if folder.is_dir()] if data else []
    found = [path for folder in folders for path in sorted(folder.glob("m_*.tif"))]
    if not found:
        sys.exit("name the folder of the NAIP dates: --data ../shared/data")
    return sorted(found, key=lambda path: path.stem[-8:])


def alerts_of(station: Station, scenes: list[Path], folder: Path) -> list[dict[str, Any]]:
    """All alerts of a monitor; for each a picture of every date, outlined, beside each other."""
    folder.mkdir()
    with open_store(station.store) as store:
        alerts = list(store.alerts().values())
        suspects = {event.body["data"]["scene"]: event.body["data"]["reason"] for event in store.events() if event.type == "scene.suspect"}
    for number, alert in enumerate(alerts, 1):
        picture(alert, scenes).save(folder / f"{number:02d}.png")
    told = [{"picture": f"{number:02d}.png", **_line(alert)} for number, alert in enumerate(alerts, 1)]
    return [*told, *({"suspect": name, "reason": reason} for name, reason in suspects.items())]


def _line(alert: Alert) -> dict[str, Any]:
    point = alert.geometry.representative_point()
    dates = {"first": alert.first_detected[:10], "last": alert.last_detected[:10], "detections": alert.n_detections}
    place = {"lon": round(point.x, 5), "lat": round(point.y, 5), "cells": len(alert.cells)}
    return {**dates, "status": alert.status, "confidence": alert.confidence, **place, "score": alert.max_score, "reason": alert.reason}


def picture(alert: Alert, scenes: list[Path]) -> Image.Image:
    """The place of an alert on every date, the outline in yellow; the frame is red on the dates between its first and last detection."""
    panels = [_panel(alert, path) for path in scenes]
    sheet = Image.new("RGB", (sum(panel.width + 4 for panel in panels), max(panel.height for panel in panels)))
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, 0))
        left += panel.width + 4
    return sheet


def _panel(alert: Alert, path: Path) -> Image.Image:
    with rasterio.open(path) as src:
        outline = shape(transform_geom("EPSG:4326", src.crs, mapping(alert.geometry)))
        around = from_bounds(*outline.buffer(AROUND_M).bounds, src.transform).round_offsets().round_lengths()
        window = around.intersection(Window(0, 0, src.width, src.height))
        values = src.read([1, 2, 3], window=window)
        inverse = ~src.window_transform(window)
    image = Image.fromarray(np.moveaxis(values, 0, -1)).resize(
        (PANEL, PANEL * values.shape[1] // values.shape[2]), Image.Resampling.NEAREST
    )
    drawing, scale = ImageDraw.Draw(image), PANEL / values.shape[2]
    for part in getattr(outline, "geoms", [outline]):
        drawing.line([tuple(scale * n for n in inverse * point) for point in part.exterior.coords], fill="yellow")
    date = f"{path.stem[-8:-4]}-{path.stem[-4:-2]}-{path.stem[-2:]}"
    inside = alert.first_detected[:10] <= date <= alert.last_detected[:10]
    drawing.rectangle([0, 0, image.width - 1, image.height - 1], outline="red" if inside else "white", width=3)
    drawing.text((8, 6), date, fill="white", stroke_width=2, stroke_fill="black")
    return image
