"""What is checked of JPEG 2000 files (ISO/IEC 15444-1) before they are decoded.

GDAL serves tiles that are missing, cut off or damaged in their headers as zeros, and says so to nobody but a log.
"""

from __future__ import annotations

import struct
from typing import IO

from geoanom.errors import SceneError

SOC, SIZ, SOT, SOD, EOC = 0xFF4F, 0xFF51, 0xFF90, 0xFF93, 0xFFD9
"""Markers (annex A): start of the codestream, size, start of a tile-part, start of its data, end of the codestream."""
BOX = int.from_bytes(b"jp2c")
"""The box of the codestream."""
MAX_SEGMENTS = 10_000
DRIVER = "JP2OpenJPEG"
AGAIN = "download it again"


class _BrokenError(Exception):
    """What is wrong with the structure."""


def check_jpeg2000(file: IO[bytes], uri: str) -> str:
    """The driver of a JPEG 2000 file in which every tile is in its place.

    Raises:
        SceneError: it is no such file, truncated, or damaged in its structure.
    """
    end = file.seek(0, 2)
    try:
        start, stop = _codestream(file, end)
        _check_tiles(file, start, stop)
    except (struct.error, ZeroDivisionError, OSError, ValueError, OverflowError):  # lengths and sizes that no file has
        raise SceneError(uri, "is truncated: the end of its image is missing", AGAIN) from None
    except _BrokenError as error:
        raise SceneError(uri, str(error), AGAIN) from None
    return DRIVER


def _codestream(file: IO[bytes], end: int) -> tuple[int, int]:
    """Where the codestream starts and stops: the whole file, or one of its boxes (annex I)."""
    file.seek(0)
    start, first = 0, file.read(8)
    if first.startswith(b"\xff\x4f\xff\x51"):
        return 0, end
    if len(first) == 8 and first[4:] != b"jP  ":
        raise _BrokenError("is not a JPEG 2000 file, whatever its name says")
    for _ in range(MAX_SEGMENTS):
        (length, kind), head = _numbers(file, start, ">II"), 8
        if length == 1:
            (length,), head = _numbers(file, start + 8, ">Q"), 16
        stop = start + length if length else end
        if kind == BOX:
            return start + head, stop
        start = max(stop, start + head)
    raise _BrokenError("is damaged: its boxes have no end")


def _check_tiles(file: IO[bytes], start: int, stop: int) -> None:
    """Walk from tile-part to tile-part, by the lengths that they state, to the end."""
    if _numbers(file, start, ">H") != (SOC,):
        raise _BrokenError("is damaged: its image has no start")
    place, n_tiles = _main_header(file, start + 2, stop)
    seen: set[int] = set()
    while _numbers(file, place, ">H") == (SOT,):
        tile, length = _numbers(file, place + 4, ">HI")
        following = place + length if length else stop - 2
        _check_header(file, place + 12, following)
        seen.add(tile)
        place = following
    if _numbers(file, place, ">H") != (EOC,) or place + 2 != stop:
        raise _BrokenError("is damaged: its tiles do not follow each other to the end")
    if len(seen) != n_tiles or max(seen, default=0) >= n_tiles:
        raise _BrokenError(f"is damaged: it has {len(seen)} of {n_tiles} tiles")


def _main_header(file: IO[bytes], place: int, stop: int) -> tuple[int, int]:
    """Where the first tile-part starts, and how many tiles the image has."""
    marker, _, _, *size = _numbers(file, place, ">HHH8I")
    if marker != SIZ:
        raise _BrokenError("is damaged: its image has no size")
    width, height, _, _, tile_width, tile_height, left, top = size
    n_tiles = -(-(width - left) // tile_width) * -(-(height - top) // tile_height)
    return _after_segments(file, place, SOT, stop), n_tiles


def _check_header(file: IO[bytes], place: int, stop: int) -> None:
    _after_segments(file, place, SOD, stop)


def _after_segments(file: IO[bytes], place: int, last: int, stop: int) -> int:
    """Where the first marker `last` before `stop` is, behind segments that state their lengths."""
    for _ in range(MAX_SEGMENTS):
        if place >= stop:
            raise _BrokenError("is damaged: the header of a tile cannot be read")
        (marker,) = _numbers(file, place, ">H")
        if marker == last:
            return place
        if marker < SOC:
            raise _BrokenError("is damaged: the header of a tile cannot be read")
        place += 2 + max(2, *_numbers(file, place + 2, ">H"))
    raise _BrokenError("is damaged: a header has no end")


def _numbers(file: IO[bytes], place: int, form: str) -> tuple[int, ...]:
    file.seek(place)
    return struct.unpack(form, file.read(struct.calcsize(form)))
