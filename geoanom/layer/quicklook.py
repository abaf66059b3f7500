"""A picture of the scene with the ranked outlines drawn on it, as a journal prints it."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from geoanom.layer.anomaly import LEVELS
from geoanom.layer.atomic import atomic_file
from geoanom.layer.furniture import SWATCH_PX, bar_of, ground_of, swatch_of
from geoanom.layer.outlines import CASING, COLOURS, LABELLED, draw_anomalies
from geoanom.layer.sheet import Row, Sheet
from geoanom.layer.stretch import composite_of, look_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.layer.anomaly import Anomaly, AnomalyLayer
    from geoanom.layer.furniture import Ground, Place
    from geoanom.layer.stretch import Look
    from geoanom.raster.blocks import Panel
    from geoanom.raster.scene import Band, Scene

MAX_SIDE_PX = 1400
MIN_SIDE_PX = 700
MAX_ZOOM = 100
DPI = 300
BAR_PX = 260
"""Length of the longest scale bar."""
EVEN = 1.05
"""Pixels whose sides differ by less on the ground are drawn square."""
SLIMMEST = 4.0
"""Ratio of their sides that is drawn at most."""
NO_DATA = (40, 40, 40)
"""Ground of pages around a scene."""
HATCH = ((232, 232, 232), (168, 168, 168))
"""No data in a picture: ground and lines."""
HATCH_PX = 12
SHADES = {"linear": "", "root": "square-root stretch", "logarithmic": "logarithmic stretch"}
RULES = {
    "fdr": "called at a false discovery rate of {}",
    "contamination": "called: a share of {}",
    "top": "called: the {} most unusual places",
}


class Thumbnail:
    """A small copy of a scene, taken from its panels as they come by."""

    def __init__(self, scene: Scene) -> None:
        """Choose the bands and how many pixels become one."""
        self.scene = scene
        self.step = max(1, -(-max(scene.height, scene.width) // MAX_SIDE_PX))
        self.composite = composite_of(scene.bands, scene.name)
        shape = (-(-scene.height // self.step), -(-scene.width // self.step))
        self._sums = np.zeros((len(self.composite.positions), *shape))
        self._counts = np.zeros(shape)

    def add(self, panel: Panel) -> None:
        """Add the usable pixels of a panel to the squares that they lie in."""
        first, last = panel.window.row_off // self.step, (panel.window.row_end - 1) // self.step
        self._counts[first : last + 1] += self._squares(panel.valid, panel.window.row_off)
        for sums, position in zip(self._sums, self.composite.positions, strict=True):
            sums[first : last + 1] += self._squares(panel.values[position], panel.window.row_off)

    def _squares(self, pixels: NDArray[np.generic], row_off: int) -> NDArray[np.float64]:
        """Sums over squares that begin at multiples of the step, whatever row the pixels begin at."""
        rows = np.maximum(np.arange(-(row_off % self.step), len(pixels), self.step), 0)
        cols = np.arange(0, pixels.shape[1], self.step)
        squares: NDArray[np.float64] = np.add.reduceat(np.add.reduceat(pixels, rows, axis=0, dtype=np.float64), cols, axis=1)
        return squares

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(row, col), True where any pixel is usable."""
        return self._counts > 0

    @property
    def values(self) -> NDArray[np.float64]:
        """(shown band, row, col): means of the usable pixels, 0 where there are none."""
        means: NDArray[np.float64] = self._sums / np.maximum(self._counts, 1)
        return means

    def look(self) -> Look:
        """The stretch that suits the usable pixels."""
        return look_of(self.composite, self.values[:, self.valid])


def display_bands(bands: tuple[Band, ...]) -> tuple[int, ...]:
    """Positions of three bands for red, green and blue, or of one for grey; see `composite_of` for polarizations."""
    positions = composite_of(bands).positions
    return positions if len(positions) == 3 else positions[:1]


def write_quicklook(layer: AnomalyLayer, thumbnail: Thumbnail, path: Path) -> None:
    """Write a PNG of one scene with its anomalies, numbered by rank and coloured by level, and all that a map needs.

    Raises:
        OutputError: it could not be written.
    """
    canvas = drawn(layer, thumbnail)
    with atomic_file(path) as temporary:
        canvas.save(temporary, "PNG", dpi=(DPI, DPI))
        with Image.open(temporary) as written:
            written.verify()


def drawn(layer: AnomalyLayer, thumbnail: Thumbnail) -> Image.Image:
    """The whole sheet."""
    scene = thumbnail.scene
    anomalies = sorted((a for a in layer.anomalies if a.scene is scene), key=lambda anomaly: anomaly.rank)
    ground = ground_of(scene.georef, scene.height, scene.width)
    scale, look = _scale(scene, thumbnail.step, ground), thumbnail.look()
    return Sheet(
        picture=_picture(thumbnail, look, anomalies, scale),
        title=scene.name,
        told=_told(scene, look, ground),
        heading=_heading(len(anomalies)),
        rows=_rows(anomalies, holes=not thumbnail.valid.all()),
        bar=bar_of(ground, scale[0], BAR_PX),
        bar_note="" if ground is None or ground.is_even else "scale and north in the middle",
        north=None if ground is None else ground.towards_north(scale),
        foot=(_rule(layer), f"model {layer.model_id}", "geoanom"),
    ).drawn()


def _scale(scene: Scene, step: int, ground: Ground | None) -> Place:
    """Pixels of the picture per column and per row: whole numbers where pixels are square on the ground."""
    longest = max(scene.height, scene.width)
    zoom = min(MAX_ZOOM, max(1, -(-MIN_SIDE_PX // longest))) / step
    slim = 1.0 if ground is None else float(np.clip(ground.metres_per_row / ground.metres_per_col, 1 / SLIMMEST, SLIMMEST))
    if 1 / EVEN < slim < EVEN:
        return zoom, zoom
    across, down = zoom * max(1.0, 1 / slim), zoom * max(1.0, slim)
    fit = min(1.0, MAX_SIDE_PX / max(scene.width * across, scene.height * down))
    return across * fit, down * fit


def _picture(thumbnail: Thumbnail, look: Look, anomalies: Sequence[Anomaly], scale: Place) -> Image.Image:
    """The scene with hatched holes, outlines and numbers."""
    scene = thumbnail.scene
    size = max(1, round(scene.width * scale[0])), max(1, round(scene.height * scale[1]))
    picture = Image.fromarray(look.rgb(thumbnail.values), "RGB").resize(size, Image.Resampling.BOX)
    missing = Image.fromarray(~thumbnail.valid).resize(size, Image.Resampling.NEAREST)
    picture.paste(_hatched(*size), (0, 0), missing)
    draw_anomalies(picture, anomalies, scale)
    return picture


def _hatched(width: int, height: int) -> Image.Image:
    diagonal = np.add.outer(np.arange(height), np.arange(width)) % HATCH_PX < 2
    return Image.fromarray(np.where(diagonal[..., None], HATCH[1], HATCH[0]).astype(np.uint8), "RGB")


def _told(scene: Scene, look: Look, ground: Ground | None) -> tuple[str, ...]:
    """What is seen: when, how large, which bands, how stretched."""
    size = f"{scene.width} x {scene.height} px" if ground is None else ground.size_of(scene.height, scene.width)
    parts = (_moment(scene.datetime or ""), size, look.composite.label, SHADES[look.bend])
    return tuple(part for part in parts if part)


def _moment(iso: str) -> str:
    """Date, time to the minute and zone, as people write them; whatever is no ISO 8601 as it is."""
    try:
        moment = dt.datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return iso if len(iso) <= len("2024-05-06") else f"{moment:%Y-%m-%d %H:%M %Z}".strip()


def _rows(anomalies: Sequence[Anomaly], *, holes: bool) -> tuple[Row, ...]:
    """The levels with what they mean and how many there are, and what is hatched."""
    counts = Counter(anomaly.level for anomaly in anomalies)
    rows = [Row(text=f"{counts[level]} {level}, {meaning}", swatch=swatch_of(COLOURS[level], CASING)) for level, meaning in _meanings()]
    return (*rows, *([Row(text="no data", swatch=_hatched(*SWATCH_PX))] if holes else []))


def _meanings() -> list[tuple[str, str]]:
    """Each level with its p-values; a score counts ten decades of them."""
    return [(name, f"p up to 1e-{least * 10:.0f}" if least else f"p above 1e-{LEVELS[-2][0] * 10:.0f}") for least, name in LEVELS]


def _heading(n: int) -> str:
    if n == 0:
        return "no anomalies"
    numbered = "numbered by rank" if n <= LABELLED else f"the first {LABELLED} numbered by rank"
    return f"{n} {'anomaly' if n == 1 else 'anomalies'}, {numbered}"


def _rule(layer: AnomalyLayer) -> str:
    rule, value = layer.threshold["rule"], layer.threshold["value"]
    return RULES.get(rule, f"called by {rule} {{}}").format(value)
