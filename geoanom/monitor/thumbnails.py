"""Small pictures of a place before and after, for messages and the page."""

from __future__ import annotations

import base64
import io
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PIL import Image
from shapely.geometry import Point, shape

from geoanom.errors import GeoanomError
from geoanom.layer.report.frame import scene_frame
from geoanom.layer.stretch import composite_of, look_of
from geoanom.monitor.lifecycle import visible_share
from geoanom.raster.grid import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from geoanom.layer.stretch import Look as Rendering
    from geoanom.monitor.store import Store
    from geoanom.monitor.store.looks import LookEntry
    from geoanom.monitor.values import Alert, Cell, Event
    from geoanom.raster.scene import Scene

SIDE_PX = 128
AROUND = 3.0
"""Side of a picture in sides of what it shows."""
LEAST_PX = 48
"""Pixels of the scene that a picture shows at least on a side."""
CLEAR = 0.5
"""Share of a place that must be seen in the picture of the past."""
TRIES = 8
"""Looks into the past for a clear one."""
OPEN = 8
"""Scenes that are kept open for the next picture."""
NO_DATA = (232, 232, 232)


@dataclass(kw_only=True)
class Photographer:
    """Takes pictures of places from the scenes that are still there."""

    store: Store
    entries: Sequence[LookEntry]
    """In order."""
    open: Callable[[str], Scene]
    """By the path of a look; raises `GeoanomError` where that is not to be had."""
    _scenes: dict[str, Scene] = field(default_factory=dict)

    def pictures(self, event: Event, alert: Alert) -> Mapping[str, str]:
        """Base64 of PNGs, as far as they can be had: ``thumbnail_before``, ``thumbnail_after``."""
        data = event.body["data"]
        place, point = shape(data["geometry"]), Point(data["lon"], data["lat"])
        here = [entry for entry in self.entries if entry.state == "used" and entry.footprint.covers(point)]
        after = next((entry for entry in reversed(here) if entry.moment == event.moment), None)
        before = self._clear_one([entry for entry in here if entry.moment < alert.first_detected], alert.cells)
        views = {name: self._view(entry, place) for name, entry in (("before", before), ("after", after)) if entry is not None}
        seen = {name: view for name, view in views.items() if view is not None}
        if not seen:
            return {}
        rendering = _rendering(seen.values())
        return {f"thumbnail_{name}": _png(view, rendering) for name, view in seen.items()}

    def _clear_one(self, entries: Sequence[LookEntry], cells: frozenset[Cell]) -> LookEntry | None:
        rows = range(min(row for row, _ in cells), max(row for row, _ in cells) + 1)
        tried = [entry for entry in entries[-TRIES:] if entry.moment >= self.store.horizon]
        clear = (entry for entry in reversed(tried) if visible_share(cells, self.store.read_cells(entry.digest, rows)) >= CLEAR)
        return next(clear, None)

    def _view(self, entry: LookEntry, place: BaseGeometry) -> _View | None:
        with suppress(GeoanomError):  # one picture is better than none
            scene = self._scene(entry)
            return None if scene is None else _view_of(scene, place)
        return None

    def _scene(self, entry: LookEntry) -> Scene | None:
        """The scene of a look, if it is still what the look was taken of."""
        if entry.path not in self._scenes:
            while len(self._scenes) >= OPEN:
                del self._scenes[next(iter(self._scenes))]
            self._scenes[entry.path] = self.open(entry.path)
        scene = self._scenes[entry.path]
        return scene if scene.digest == entry.digest else None


@dataclass(frozen=True, kw_only=True)
class _View:
    """The pixels of a picture."""

    scene: Scene
    values: NDArray[np.generic]
    """(shown band, row, col)."""
    valid: NDArray[np.bool_]
    """(row, col)."""


def _view_of(scene: Scene, place: BaseGeometry) -> _View | None:
    outline = scene_frame(scene).place(place)
    window = None if outline is None else _window(outline.bounds, scene)
    if window is None:
        return None
    handle = scene.open_handle()
    try:
        pixels = handle.read(window)
    finally:
        handle.close()
    step = max(1, -(-max(window.height, window.width) // SIDE_PX))
    shown = list(composite_of(scene.bands, scene.name).positions)
    return _View(scene=scene, values=pixels.values[shown, ::step, ::step], valid=pixels.valid[::step, ::step])


def _window(bounds: tuple[float, float, float, float], scene: Scene) -> Window | None:
    """A square around a place, moved into the scene as far as that is possible."""
    left, top, right, bottom = bounds
    side = int(max(LEAST_PX, AROUND * (right - left), AROUND * (bottom - top)))
    height, width = min(side, scene.height), min(side, scene.width)
    row, col = round((top + bottom - height) / 2), round((left + right - width) / 2)
    row, col = min(max(row, 0), scene.height - height), min(max(col, 0), scene.width - width)
    is_inside = right > 0 and bottom > 0 and left < scene.width and top < scene.height
    return Window(row_off=row, col_off=col, height=height, width=width) if is_inside else None


def _rendering(views: Iterable[_View]) -> Rendering:
    """One stretch for both, so that they can be compared: that of the first with usable pixels."""
    ordered = sorted(views, key=lambda view: not view.valid.any())
    first = ordered[0]
    return look_of(composite_of(first.scene.bands, first.scene.name), first.values[:, first.valid])


def _png(view: _View, rendering: Rendering) -> str:
    rgb = rendering.rgb(view.values)
    rgb[~view.valid] = NO_DATA
    picture = Image.fromarray(rgb, "RGB")
    scale = SIDE_PX / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    memory = io.BytesIO()
    picture.resize(size, Image.Resampling.NEAREST).save(memory, "PNG", optimize=True)
    return base64.b64encode(memory.getvalue()).decode()
