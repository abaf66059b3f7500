"""What ``geoanom info`` tells people, line by line."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Any

import click

from geoanom.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

WIDTH = 80
LABEL = 12
BANDS_SHOWN = 12
SCENES_SHOWN = 6
BLOCKS, PLAIN_BLOCKS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
"""Heights of a histogram's bars, from nothing to the highest."""
NUMBER_WIDTH = 8
COLUMNS = {"min": "minimum", "2 %": "p02", "median": "median", "98 %": "p98", "max": "maximum"}
"""What the columns of the table are called, and their keys."""


def model_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """What a model is."""
    yield from _labelled("model", facts["model"])
    yield from _labelled("embedding", f"{facts['dim']} numbers a tile, by {facts['backbone']}")
    yield from _labelled("detectors", ", ".join(facts["members"]))
    yield from _labelled("tiles", f"{facts['tile_size']} x {facts['tile_size']} pixels, one every {facts['stride']}")
    yield from _labelled("fitted on", f"{facts['tiles_fitted']} tiles of {_some([s['name'] for s in facts['scenes']], SCENES_SHOWN)}")
    yield from _labelled("bands", f"{_some([band['name'] for band in facts['bands']], BANDS_SHOWN)} ({facts['dtype']})")
    yield from _labelled("resolution", _metres(facts["resolution_m"]))


def scene_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """What a scene is, of at most `WIDTH` characters a line."""
    yield from _wrapped(facts["scene"])
    size = f"{facts['kind']} of {facts['width']} x {facts['height']} pixels"
    yield from _wrapped(size if facts["width_km"] is None else f"{size}, {_short(facts['width_km'])} x {_short(facts['height_km'])} km")
    yield ""
    yield from _labelled("centre", _degrees(facts["centre"]))
    yield from _labelled("CRS", _crs(facts))
    yield from _labelled("resolution", _metres(facts["resolution_m"]))
    yield from _labelled("acquired", facts["datetime"] or "unknown")
    yield from _labelled("usable", f"{_percent(facts['valid_fraction'])} of the pixels")
    yield from _labelled("tiles", _tiles(facts))
    bands = facts["bands"]
    of_more = f" of {facts['band_count']}" if facts["band_count"] > len(bands) else ""
    yield from _labelled("bands", f"{len(bands)}{of_more}, read as {bands[0]['dtype']}")
    yield ""
    yield from _table(bands)
    yield ""
    yield "warnings" if facts["warnings"] else "no warnings"
    for warning in facts["warnings"]:
        yield from _wrapped(warning, "- ", "  ")


def _table(bands: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One line a band: number, name, statistics, histogram."""
    shown = bands[:BANDS_SHOWN]
    rows = [[str(band["index"]), one_line(band["name"]), *(_number(band.get(key)) for key in COLUMNS.values())] for band in shown]
    rows.insert(0, ["#", "name", *COLUMNS])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    drawn = ["1 to 99 %", *(_histogram(band.get("histogram")) for band in shown)]
    widths[1] = min(widths[1], WIDTH - sum(widths) + widths[1] - len(widths) - max(map(len, drawn)))
    for (index, name, *numbers), histogram in zip(rows, drawn, strict=True):
        told = (number.rjust(width) for number, width in zip(numbers, widths[2:], strict=True))
        yield " ".join([index.rjust(widths[0]), _cut(name, widths[1]).ljust(widths[1]), *told, histogram]).rstrip()
    if len(bands) > len(shown):
        yield f"and {len(bands) - len(shown)} more"


def _histogram(histogram: Mapping[str, Any] | None) -> str:
    """The bars; each value that occurs is seen."""
    if histogram is None:
        return ""
    most = max(histogram["counts"])
    blocks = BLOCKS if _canecho_lines(BLOCKS) else PLAIN_BLOCKS
    return "".join(blocks[-(-count * (len(blocks) - 1) // most)] for count in histogram["counts"])


def echo_lines(lines: Iterable[str]) -> None:
    """Write lines of which no character moves the cursor or is beyond the terminal's alphabet."""
    encoding = sys.stdout.encoding or "ascii"
    for line in lines:
        click.echo(line.encode(encoding, "backslashreplace").decode(encoding))


def _canecho_lines(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _labelled(label: str, text: str) -> Iterator[str]:
    return _wrapped(text, label.ljust(LABEL), " " * LABEL)


def _wrapped(text: str, first: str = "", later: str = "") -> Iterator[str]:
    yield from textwrap.wrap(one_line(text), WIDTH, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)


def _tiles(facts: Mapping[str, Any]) -> str:
    cut = f"{facts['tiles']} of {facts['tile_size']} x {facts['tile_size']} pixels, one every {facts['stride']}"
    if not facts["tiles_masked"]:
        return f"{cut}; a run scores all of them"
    return f"{cut}; a run scores {facts['tiles_scored'] or 'none'} of them, the others have too few usable pixels"


def _crs(facts: Mapping[str, Any]) -> str:
    if facts["crs"] is None:
        return "none: scored in pixel coordinates"
    return f"{facts['crs']} ({facts['crs_code'] or 'no code'})"


def _degrees(centre: Sequence[float] | None) -> str:
    if centre is None:
        return "unknown"
    lon, lat = centre
    return f"{abs(lat):.4f} {'N' if lat >= 0 else 'S'}, {abs(lon):.4f} {'E' if lon >= 0 else 'W'}"


def _metres(resolution_m: float | None) -> str:
    return "unknown" if resolution_m is None else f"{_short(resolution_m)} m a pixel"


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _short(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def _number(value: float | None) -> str:
    """As many digits as fit a column; whole numbers whole where they can be."""
    if value is None:
        return "-"
    tried = [f"{value:.0f}"] if float(value).is_integer() else []
    tried += [f"{value:.{digits}g}" for digits in range(5, 0, -1)]
    return next((text for text in tried if len(text) <= NUMBER_WIDTH), tried[-1])


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width - 2]}.."


def _some(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
