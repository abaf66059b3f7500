"""A sheet of paper with a map on it: title, picture, legend, scale, north and sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from geoanom.layer.furniture import (
    ARROW_PX,
    BAR_HEIGHT_PX,
    INK,
    PAPER,
    SWATCH_PX,
    draw_arrow,
    draw_bar,
    fitted,
    lines_of,
    width_of,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geoanom.layer.furniture import Bar, Place

    Line = tuple[str, int]

TITLE_PX, TEXT_PX, SMALL_PX = 32, 25, 21
"""Sizes of lettering: 5 points and up at 300 dots an inch."""
LEADING = 1.35
MARGIN_PX, GAP_PX, FRAME_PX, ROW_PX = 28, 18, 2, 36
LEAST_WIDTH_PX, COLUMN_PX = 920, 520
FURNITURE_PX = ARROW_PX + 16
"""Height that scale and north need, and width of the latter."""
TALL = 1.5
"""Height over width from which on a narrow picture has its texts beside it."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a legend."""

    text: str
    swatch: Image.Image


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What is on the paper."""

    picture: Image.Image
    title: str
    told: tuple[str, ...]
    """Parts of the line below the title."""
    heading: str
    """Of the legend."""
    rows: tuple[Row, ...]
    bar: Bar
    bar_note: str
    """What to know about the bar, or nothing."""
    north: Place | None
    """Direction (right, down), where there is a north."""
    foot: tuple[str, ...]
    """Parts of the last line."""

    def drawn(self) -> Image.Image:
        """The paper, with the texts below the picture, or beside one that is tall and narrow."""
        width, height = self.picture.size
        return self._beside() if height > TALL * width and width + COLUMN_PX <= LEAST_WIDTH_PX else self._below()

    def _below(self) -> Image.Image:
        width = max(self.picture.width, LEAST_WIDTH_PX)
        head, foot = self._head(width), self._foot(width)
        strip = max(self._legend_height, FURNITURE_PX)
        canvas = _blank(width, _height(head) + self.picture.height + strip + _height(foot) + 3 * GAP_PX)
        top = _write_lines(canvas, head, MARGIN_PX, MARGIN_PX) + GAP_PX
        self._draw_picture(canvas, MARGIN_PX + (width - self.picture.width) // 2, top)
        top += self.picture.height + GAP_PX
        self._draw_legend(canvas, MARGIN_PX, top)
        right = MARGIN_PX + width
        if self.north:
            self._draw_north(canvas, right - FURNITURE_PX, top)
            right -= FURNITURE_PX + 2 * GAP_PX
        self._draw_bar(canvas, right - max(self.bar.length_px, width_of(self.bar_note, SMALL_PX)), top)
        _write_lines(canvas, foot, MARGIN_PX, top + strip + GAP_PX)
        return canvas

    def _beside(self) -> Image.Image:
        head, foot = self._head(COLUMN_PX), self._foot(COLUMN_PX)
        column = _height(head) + self._legend_height + 2 * FURNITURE_PX + _height(foot) + 4 * GAP_PX
        canvas = _blank(self.picture.width + 2 * GAP_PX + COLUMN_PX, max(self.picture.height, column))
        self._draw_picture(canvas, MARGIN_PX, MARGIN_PX)
        left = MARGIN_PX + self.picture.width + 2 * GAP_PX
        top = _write_lines(canvas, head, left, MARGIN_PX) + GAP_PX
        self._draw_legend(canvas, left, top)
        top += self._legend_height + GAP_PX
        self._draw_bar(canvas, left, top)
        if self.north:
            self._draw_north(canvas, left, top + FURNITURE_PX)
        _write_lines(canvas, foot, left, canvas.height - MARGIN_PX - _height(foot))
        return canvas

    def _head(self, width: int) -> list[Line]:
        return [(fitted(self.title, width, TITLE_PX), TITLE_PX), *((line, TEXT_PX) for line in lines_of(self.told, width, TEXT_PX))]

    def _foot(self, width: int) -> list[Line]:
        return [(line, SMALL_PX) for line in lines_of(self.foot, width, SMALL_PX)]

    @property
    def _legend_height(self) -> int:
        return ROW_PX * (1 + len(self.rows))

    def _draw_picture(self, canvas: Image.Image, left: int, top: int) -> None:
        frame = left - FRAME_PX, top - FRAME_PX, left + self.picture.width + FRAME_PX - 1, top + self.picture.height + FRAME_PX - 1
        ImageDraw.Draw(canvas).rectangle(frame, outline=INK, width=FRAME_PX)
        canvas.paste(self.picture, (left, top))

    def _draw_legend(self, canvas: Image.Image, left: int, top: int) -> None:
        draw = ImageDraw.Draw(canvas)
        write(draw, (left, top), self.heading, TEXT_PX)
        for n, row in enumerate(self.rows, 1):
            canvas.paste(row.swatch, (left, top + n * ROW_PX + (TEXT_PX - SWATCH_PX[1]) // 2 + 2))
            write(draw, (left + SWATCH_PX[0] + 14, top + n * ROW_PX), row.text, TEXT_PX)

    def _draw_bar(self, canvas: Image.Image, left: float, top: int) -> None:
        draw = ImageDraw.Draw(canvas)
        draw_bar(draw, self.bar, (left, top + GAP_PX), TEXT_PX)
        write(draw, (left, top + GAP_PX + BAR_HEIGHT_PX + ROW_PX), self.bar_note, SMALL_PX)

    def _draw_north(self, canvas: Image.Image, left: int, top: int) -> None:
        if self.north:
            draw_arrow(canvas, self.north, (left + FURNITURE_PX / 2, top + FURNITURE_PX / 2), TEXT_PX)


def _blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width + 2 * MARGIN_PX, height + 2 * MARGIN_PX), PAPER)


def _height(lines: Sequence[Line]) -> int:
    return sum(round(size * LEADING) for _, size in lines)


def _write_lines(canvas: Image.Image, lines: Sequence[Line], left: int, top: int) -> int:
    """Write lines below each other; returns where the next would begin."""
    draw = ImageDraw.Draw(canvas)
    for text, size in lines:
        write(draw, (left, top), text, size)
        top += round(size * LEADING)
    return top
