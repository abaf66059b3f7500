"""A picture of the scene with the ranked outlines drawn on it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from geoanom.layer.atomic import atomic_file
from geoanom.layer.geometry import polygons_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.layer.anomaly import Anomaly, AnomalyLayer
    from geoanom.raster.blocks import Panel
    from geoanom.raster.scene import Band, Scene

MAX_SIDE_PX = 1400
MIN_SIDE_PX = 700
COLOURS = {"high": (255, 64, 64), "medium": (255, 190, 0), "low": (0, 220, 255)}
NO_DATA = (40, 40, 40)
FOOTER_PX = 34
ROLES = (r"red|b0?4\b", r"green|b0?3\b", r"blue|b0?2\b")
"""Names of bands that a screen shows as red, green and blue."""


class Thumbnail:
    """A small copy of a scene, taken from its panels as they come by."""

    def __init__(self, scene: Scene) -> None:
        """Choose the bands and the step between the pixels that are kept."""
        self.scene = scene
        self.step = max(1, -(-max(scene.height, scene.width) // MAX_SIDE_PX))
        self._bands = display_bands(scene.bands)
        shape = (-(-scene.height // self.step), -(-scene.width // self.step))
        self._values = np.zeros((len(self._bands), *shape), np.float32)
        self._valid = np.zeros(shape, bool)

    def add(self, panel: Panel) -> None:
        """Keep every step-th pixel of a panel."""
        first = -panel.window.row_off % self.step
        top = (panel.window.row_off + first) // self.step
        part = panel.values[list(self._bands), first :: self.step, :: self.step]
        self._values[:, top : top + part.shape[1]] = part
        self._valid[top : top + part.shape[1]] = panel.valid[first :: self.step, :: self.step]

    def image(self) -> Image.Image:
        """Red, green and blue, each stretched between its 2nd and 98th percentile."""
        stretched = [self._stretched(band) for band in self._values]
        rgb = np.stack([stretched[i % len(stretched)] for i in range(3)], axis=-1)
        rgb[~self._valid] = NO_DATA
        return Image.fromarray(rgb, "RGB")

    def _stretched(self, band: NDArray[np.float32]) -> NDArray[np.uint8]:
        usable = band[self._valid]
        low, high = np.percentile(usable, [2, 98]) if usable.size else (0.0, 1.0)
        return (np.clip((band - low) / max(float(high - low), 1e-12), 0, 1) * 255).astype(np.uint8)


def display_bands(bands: tuple[Band, ...]) -> tuple[int, ...]:
    """Positions of the bands shown as red, green and blue: by name where names tell, else the first three, else the first."""
    by_role = [next((i for i, band in enumerate(bands) if re.search(role, band.name.lower())), None) for role in ROLES]
    if all(i is not None for i in by_role):
        return tuple(i for i in by_role if i is not None)
    return (0, 1, 2) if len(bands) >= len(ROLES) else (0,)


def write_quicklook(layer: AnomalyLayer, thumbnail: Thumbnail, path: Path) -> None:
    """Write a PNG of one scene with its anomalies, numbered by rank and coloured by level.

    Raises:
        OutputError: it could not be written.
    """
    picture = thumbnail.image()
    zoom = max(1, -(-MIN_SIDE_PX // max(picture.size)))
    picture = picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
    canvas = Image.new("RGB", (max(picture.width, MIN_SIDE_PX), picture.height + FOOTER_PX), (20, 20, 20))
    canvas.paste(picture)
    draw = ImageDraw.Draw(canvas)
    for anomaly in sorted(layer.anomalies, key=lambda a: -a.rank):
        if anomaly.scene is thumbnail.scene:
            _draw_anomaly(draw, anomaly, zoom / thumbnail.step)
    draw.text((8, picture.height + 8), _caption(layer, thumbnail.scene), fill=(230, 230, 230), font=ImageFont.load_default(15))
    with atomic_file(path) as temporary:
        canvas.save(temporary, "PNG")
        with Image.open(temporary) as written:
            written.verify()


def _draw_anomaly(draw: ImageDraw.ImageDraw, anomaly: Anomaly, scale: float) -> None:
    colour = COLOURS[anomaly.level]
    for polygon in polygons_of(anomaly.outline):
        draw.line([(x * scale, y * scale) for x, y in polygon.exterior.coords], fill=colour, width=2)
    left, top, _, _ = anomaly.outline.bounds
    place = (max(0.0, left * scale), max(0.0, top * scale - 17))
    draw.text(place, str(anomaly.rank), fill=colour, font=ImageFont.load_default(15), stroke_width=2, stroke_fill=(0, 0, 0))


def _caption(layer: AnomalyLayer, scene: Scene) -> str:
    rule = f"{layer.threshold['rule']} {layer.threshold['value']}"
    size = "" if scene.resolution_m is None else f", {scene.width * scene.resolution_m / 1000:.1f} km wide"
    return f"{scene.name}{size}: {len(layer)} anomalies ({rule}); red high, amber medium, cyan low; model {layer.model_id}"
