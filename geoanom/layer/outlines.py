"""Anomalies on a picture: outlines in the colours of their levels, numbered by rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageColor, ImageDraw
from shapely.affinity import scale as scaled

from geoanom.layer.furniture import font
from geoanom.layer.geometry import polygons_of
from geoanom.layer.styles import COLOURS as STYLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from shapely import Polygon

    from geoanom.layer.anomaly import Anomaly
    from geoanom.layer.furniture import Colour, Place

    Box = tuple[int, int, int, int]

COLOURS: dict[str, Colour] = {level: ImageColor.getcolor(colour, "RGB") for level, colour in STYLES.items()}  # type: ignore[misc]
"""Level to colour, as in every other layer."""
CASING: Colour = (16, 16, 16)
NUMBER: Colour = (255, 255, 255)
LINE_PX, CASING_PX = 3, 7
LABEL_PX, HALO_PX, GAP_PX = 23, 3, 4
LABELLED = 200
"""Ranks up to which outlines are numbered."""
COVERED = 50
"""How much worse it is to cover a number than an outline."""


def draw_anomalies(picture: Image.Image, anomalies: Sequence[Anomaly], scale: Place) -> None:
    """Draw outlines, the highest ranks last, and then the numbers, the highest ranks first.

    Args:
        picture: drawn on.
        anomalies: in the order of their ranks.
        scale: pixels of the picture per column and per row of the scene.
    """
    taken = Image.new("L", picture.size)
    shapes = [polygons_of(scaled(anomaly.outline, *scale, origin=(0, 0))) for anomaly in anomalies]
    for anomaly, polygons in zip(reversed(anomalies), reversed(shapes), strict=True):
        rings = list(_rings(polygons, picture.size))
        _draw_lines(taken, rings, 1, CASING_PX)
        _draw_lines(picture, rings, CASING, CASING_PX)
        _draw_lines(picture, rings, COLOURS[anomaly.level], LINE_PX)
    busy = np.array(taken, np.int64)
    for anomaly, polygons in zip(anomalies[:LABELLED], shapes, strict=False):
        _draw_rank(picture, busy, anomaly, max(polygons, key=lambda polygon: polygon.area))


def _rings(polygons: Sequence[Polygon], size: tuple[int, int]) -> Iterator[list[Place]]:
    """Borders and holes, moved inward where the edge of the picture would cut their line in half."""
    right, bottom = (max(side - 2.0, 1.0) for side in size)
    for polygon in polygons:
        for ring in (polygon.exterior, *polygon.interiors):
            yield [(min(max(x, 1.0), right), min(max(y, 1.0), bottom)) for x, y in ring.coords]


def _draw_lines(picture: Image.Image, rings: Sequence[Sequence[Place]], colour: Colour | int, width: int) -> None:
    draw = ImageDraw.Draw(picture)
    for ring in rings:
        draw.line([*ring, ring[1]], fill=colour, width=width, joint="curve")


def _draw_rank(picture: Image.Image, busy: NDArray[np.int64], anomaly: Anomaly, polygon: Polygon) -> None:
    """Write the rank where it covers least, if the picture has room for it at all."""
    text, draw = str(anomaly.rank), ImageDraw.Draw(picture)
    left, top, right, bottom = (round(edge) for edge in font(LABEL_PX).getbbox(text, stroke_width=HALO_PX))
    width, height = right - left, bottom - top
    if width > picture.width or height > picture.height:
        return
    box = _taken_box(busy, polygon, (width, height))
    draw.text((box[0] - left, box[1] - top), text, fill=NUMBER, font=font(LABEL_PX), stroke_width=HALO_PX, stroke_fill=CASING)


def _taken_box(busy: NDArray[np.int64], polygon: Polygon, size: tuple[int, int]) -> Box:
    """The place that covers least, which is taken from then on."""
    places = _boxes(polygon, size, (busy.shape[1], busy.shape[0]))
    box = min(places, key=lambda box: int(busy[box[1] : box[3], box[0] : box[2]].sum()))
    busy[box[1] : box[3], box[0] : box[2]] += COVERED
    return box


def _boxes(polygon: Polygon, size: tuple[int, int], room: tuple[int, int]) -> Iterator[Box]:
    """Places around an outline and in it, the most usual first, moved into the picture."""
    west, north, east, south = polygon.bounds
    width, height = size
    over, under = north - height - GAP_PX, south + GAP_PX
    before, behind = west - width - GAP_PX, east + GAP_PX
    across, along = (west + east - width) / 2, (north + south - height) / 2
    usual = [(west, over), (east - width, over), (across, over), (behind, north), (before, north), (behind, along), (before, along)]
    usual += [(west, under), (east - width, under), (across, under), (behind, over), (before, over), (behind, under), (before, under)]
    for x, y in [*usual, (across, along)]:
        left, top = (round(min(max(at, 0), side - length)) for at, side, length in ((x, room[0], width), (y, room[1], height)))
        yield left, top, left + width, top + height
