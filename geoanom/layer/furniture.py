"""What a map needs beside its picture: a scale bar, a north arrow, a legend, and lettering that stays inside."""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from geoanom.raster.georef import WGS84

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from geoanom.raster.georef import Georeference

Colour = tuple[int, int, int]
Place = tuple[float, float]

INK: Colour = (20, 20, 20)
PAPER: Colour = (255, 255, 255)
ELLIPSIS, DOT = "…", "  ·  "
ABOVE = "\u0300\u0301\u0302\u0303\u030a\u0308\u0307"
"""Accents: grave, acute, circumflex, tilde, ring, dots, dot."""
MARKS = dict(zip(ABOVE, ("`", "\u00b4", "^", "~", "\u00b0", "..", "."), strict=True))
"""The glyphs that draw them above a letter: Pillow's font holds no letter with an accent."""
SPELLED = {"ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "AE", "œ": "oe", "ł": "l", "Ł": "L", "đ": "d", "\u0131": "i", "\u00d7": "x"}
SPELLED |= {"\u2013": "-", "\u2014": "-", "\u2212": "-", "≤": "<=", "≥": ">=", "\u00b5": "u", "\u03bc": "u", "\u00a0": " "}
FLAT = 1e-3
"""Sine of the angle between columns and rows below which a direction is lost, as on a pole."""
EVEN = 0.05
FINE = 4
"""Drawn this many times larger and reduced, so that slanted edges are smooth."""
ROUND = (5, 2, 1)
BAR_HEIGHT_PX = 10
ARROW_PX = 110
SWATCH_PX = (40, 22)


@dataclass(frozen=True, kw_only=True)
class Ground:
    """How the middle of a scene lies on the Earth."""

    metres_per_col: float
    """Geodesic length of one pixel along a row."""
    metres_per_row: float
    """Geodesic length of one pixel along a column."""
    is_even: bool
    """Lengths and directions at the edges differ from those in the middle by less than 5 %."""
    north: Place | None
    """Pixels (col, row) that go one metre towards true north; None at a pole, where there is no north."""

    def towards_north(self, scale: Place) -> Place | None:
        """The unit vector (right, down) of true north in a picture with so many pixels per column and row."""
        if self.north is None:
            return None
        right, down = self.north[0] * scale[0], self.north[1] * scale[1]
        length = math.hypot(right, down)
        return right / length, down / length

    def size_of(self, height: int, width: int) -> str:
        """Sides of a scene and of its pixels."""
        scene = _lengths(width * self.metres_per_col, height * self.metres_per_row)
        return f"{scene}, pixels of {_lengths(self.metres_per_col, self.metres_per_row)}"


def _lengths(across: float, down: float) -> str:
    unit, metres = ("km", 1000.0) if max(across, down) >= 1000 else ("m", 1.0)
    return f"{_three_digits(across / metres)} x {_three_digits(down / metres)} {unit}"


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ground_of(georef: Georeference, height: int, width: int) -> Ground | None:
    """Lengths and north in the middle of a scene (Karney 2013, doi:10.1007/s00190-012-0578-z); None where it has no place on the Earth."""
    if georef.is_pixel_space:
        return None
    middle = _jacobian(georef, width / 2, height / 2)
    along_col, along_row = np.hypot(*middle)
    if not (np.isfinite(middle).all() and along_col > 0 and along_row > 0):
        return None
    edges = [_jacobian(georef, width * x, height * y) for x, y in ((0.02, 0.5), (0.98, 0.5), (0.5, 0.02), (0.5, 0.98))]
    return Ground(
        metres_per_col=float(along_col),
        metres_per_row=float(along_row),
        is_even=all(np.linalg.norm(edge - middle) < EVEN * np.linalg.norm(middle) for edge in edges),
        north=None if _is_pole(georef, height, width, float(along_row)) else _north(middle),
    )


def _is_pole(georef: Georeference, height: int, width: int, within_m: float) -> bool:
    """Whether a pole is so near to the middle."""
    lon, lat = georef.lonlat(np.array([width / 2]), np.array([height / 2]))
    return float(WGS84.inv(lon[0], lat[0], lon[0], math.copysign(90.0, lat[0]))[2]) < within_m


def _jacobian(georef: Georeference, col: float, row: float) -> NDArray[np.float64]:
    """Metres to the east and to the north (2, 2) of one column and of one row, measured over half a pixel to either side."""
    ends = np.array([[col - 0.5, row], [col + 0.5, row], [col, row - 0.5], [col, row + 0.5], [col, row]])
    lon, lat = georef.lonlat(ends[:, 0], ends[:, 1])
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return np.full((2, 2), np.nan)
    azimuth, _, metres = WGS84.inv(np.full(4, lon[4]), np.full(4, lat[4]), lon[:4], lat[:4])
    steps = metres * np.array([np.sin(np.radians(azimuth)), np.cos(np.radians(azimuth))])
    return np.asarray(steps[:, 1::2] - steps[:, ::2], float)


def _north(metres: NDArray[np.float64]) -> Place | None:
    """Columns and rows of one metre to the north, by the inverse."""
    if abs(np.linalg.det(metres)) < FLAT * np.prod(np.hypot(*metres)):
        return None
    col, row = np.linalg.inv(metres)[:, 1]
    return float(col), float(row)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A scale bar of a round length."""

    length: float
    """In metres, or in pixels of the scene without a place."""
    length_px: float
    """In pixels of the picture."""
    in_pixels: bool = False

    @property
    def label(self) -> str:
        """The length with its unit."""
        if self.in_pixels:
            return f"{self.length:g} px"
        return f"{self.length / 1000:,.10g} km" if self.length >= 1000 else f"{self.length:g} m"


def bar_of(ground: Ground | None, px_per_col: float, longest_px: float) -> Bar:
    """The longest bar of 1, 2 or 5 times a power of ten that is not longer than `longest_px` in the picture.

    Args:
        ground: of the scene; the bar counts pixels where it is None.
        px_per_col: pixels of the picture per pixel of the scene along a row.
        longest_px: room for the bar.
    """
    unit = 1.0 if ground is None else ground.metres_per_col
    room = longest_px / px_per_col * unit
    decade = 10.0 ** math.floor(math.log10(room) + 1e-9)
    length = next(n * decade for n in ROUND if n * decade <= room * (1 + 1e-9))
    length = max(1.0, length) if ground is None else length
    return Bar(length=length, length_px=length / unit * px_per_col, in_pixels=ground is None)


def draw_bar(draw: ImageDraw.ImageDraw, bar: Bar, place: Place, size: int) -> None:
    """Two halves, black and white, from `place` (left, top) on, with the length below."""
    left, top = round(place[0]), round(place[1])
    right, middle = left + round(bar.length_px), left + round(bar.length_px / 2)
    draw.rectangle((left, top, right, top + BAR_HEIGHT_PX), fill=PAPER, outline=INK, width=2)
    draw.rectangle((left, top, middle, top + BAR_HEIGHT_PX), fill=INK)
    write(draw, (left, top + BAR_HEIGHT_PX + 6), "0", size)
    write(draw, (right - width_of(bar.label, size), top + BAR_HEIGHT_PX + 6), bar.label, size)


def draw_arrow(canvas: Image.Image, direction: Place, centre: Place, size: int) -> None:
    """A compass needle that points along `direction` (right, down), with an upright N at its tip."""
    side = ARROW_PX * FINE
    mask, half = Image.new("L", (side, side)), Image.new("L", (side, side))
    tip, right, tail, left = (_turned(point, direction, side) for point in ((0, -0.3), (0.15, 0.3), (0, 0.18), (-0.15, 0.3)))
    ImageDraw.Draw(mask).polygon([tip, right, tail, left], fill=0, outline=255, width=2 * FINE)
    ImageDraw.Draw(half).polygon([tip, right, tail], fill=255)
    corner = round(centre[0] - ARROW_PX / 2), round(centre[1] - ARROW_PX / 2)
    for part in (mask, half):
        canvas.paste(INK, corner, part.resize((ARROW_PX, ARROW_PX), Image.Resampling.BOX))
    reach = 0.3 * ARROW_PX + size * 0.65
    where = centre[0] + direction[0] * reach, centre[1] + direction[1] * reach
    ImageDraw.Draw(canvas).text(where, "N", fill=INK, font=font(size), anchor="mm")


def _turned(point: Place, direction: Place, side: int) -> Place:
    """A point of an arrow that points up, around the middle of a square, for one that points along `direction`."""
    (x, y), (right, down) = point, direction
    return (0.5 - x * down - y * right) * side, (0.5 + x * right - y * down) * side


def swatch_of(colour: Colour, casing: Colour) -> Image.Image:
    """The outline of one level as the map draws it."""
    swatch = Image.new("RGB", SWATCH_PX, PAPER)
    right, bottom = SWATCH_PX[0] - 1, SWATCH_PX[1] - 1
    draw = ImageDraw.Draw(swatch)
    draw.rectangle((0, 0, right, bottom), outline=casing, width=7)
    draw.rectangle((2, 2, right - 2, bottom - 2), outline=colour, width=3)
    return swatch


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, the same on every machine."""
    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))


def write(draw: ImageDraw.ImageDraw, place: Place, text: str, size: int) -> None:
    """Write a line from its left top, with accents."""
    letters = _letters(text)
    base = "".join(letter for letter, _ in letters)
    draw.text(place, base, fill=INK, font=font(size))
    for i, (letter, marks) in enumerate(letters):
        if marks:
            _accent(draw, (place[0] + font(size).getlength(base[:i]), place[1]), letter, marks, size)


def _accent(draw: ImageDraw.ImageDraw, place: Place, letter: str, marks: str, size: int) -> None:
    """Centre an accent above a letter, closer where a dot is there already."""
    left, top, right, _ = _ink(letter, size)
    first, _, last, under = _ink(marks, size)
    gap = size * (0.0 if letter in "ij" else 0.08)
    draw.text((place[0] + (left + right - first - last) / 2, place[1] + top - gap - under), marks, fill=INK, font=font(size))


@cache
def _ink(text: str, size: int) -> tuple[int, int, int, int]:
    """What a text blackens (left, top, right, bottom), from its origin."""
    shape, (across, down) = font(size).getmask2(text)
    left, top, right, bottom = shape.getbbox() or (0, 0, 0, 0)
    return left + across, top + down, right + across, bottom + down


def _letters(text: str) -> list[tuple[str, str]]:
    """Glyphs that the font has, each with the accents to draw above it; ``?`` for what cannot be spelled."""
    letters: list[tuple[str, str]] = []
    for sign in unicodedata.normalize("NFD", "".join(SPELLED.get(sign, sign) for sign in text)):
        if not unicodedata.combining(sign):
            letters.append((sign if _has(sign) else "?", ""))
        elif letters and sign in MARKS:
            letters[-1] = letters[-1][0], letters[-1][1] or MARKS[sign]
    return letters


@cache
def _has(sign: str) -> bool:
    """Whether the font draws anything but its box for what it lacks."""
    shape, missing = (font(32).getmask(letter) for letter in (sign, "\uffff"))
    return sign.isprintable() and (shape.size, bytes(shape)) != (missing.size, bytes(missing))


def width_of(text: str, size: int) -> float:
    """Pixels that a line takes."""
    return font(size).getlength("".join(letter for letter, _ in _letters(text)))


def fitted(text: str, width: float, size: int) -> str:
    """The text, or as much of its beginning as fits with an ellipsis."""
    if width_of(text, size) <= width:
        return text
    kept = bisect_right(range(len(text)), width, key=lambda n: width_of(text[:n] + ELLIPSIS, size))
    while kept and width_of(text[:kept] + ELLIPSIS, size) > width:
        kept -= 1  # widths do not strictly grow with the text: pairs of letters are set closer
    return text[:kept].rstrip() + ELLIPSIS


def lines_of(parts: Iterable[str], width: float, size: int) -> list[str]:
    """Parts joined by dots to lines that fit; a part that is too long for a line is broken between words."""
    lines: list[str] = []
    for part in parts:
        for lead, word in _pieces(part, width, size):
            joined = f"{lines[-1]}{lead}{word}" if lines else word
            if lines and width_of(joined, size) <= width:
                lines[-1] = joined
            else:
                lines.append(fitted(word, width, size))
    return lines


def _pieces(part: str, width: float, size: int) -> list[tuple[str, str]]:
    """What may not be broken, each with what goes before it on the same line."""
    if width_of(part, size) <= width:
        return [(DOT, part)]
    return [(" " if n else DOT, word) for n, word in enumerate(part.split())]
