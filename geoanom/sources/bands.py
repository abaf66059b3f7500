"""Which bands of a raster file are used: those that are asked for by number or by name, or all that hold something."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

import numpy as np
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as RioWindow

from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import rasterio

SURVEY_BLOCKS = 16
NUMBERED = re.compile(r"band \d+|palette (red|green|blue)", re.IGNORECASE)
"""What bands are called that have no name of their own."""


class UnnamedBandsError(ConfigError):
    """Bands are asked for by name of a file that names none."""


def is_name(text: str | None) -> bool:
    """Whether a band's description tells what it shows, and not only its place in the file."""
    return bool(text and text.strip()) and not NUMBERED.fullmatch(str(text).strip())


def folded(name: str) -> str:
    """A band's name as names are compared: letters in upper and lower case are the same."""
    return name.strip().casefold()


def band_numbers(wanted: Sequence[int | str], names: Sequence[str | None], uri: str) -> tuple[int, ...]:
    """The 1-based numbers of bands that are asked for by number or by name.

    Args:
        wanted: numbers or names.
        names: what the file calls its bands, None or ``band N`` where it does not.
        uri: the file, for messages.

    Raises:
        UnnamedBandsError: a name is asked for, and no band has one.
        ConfigError: there is no such band, or several have the name.
    """
    return tuple(_by_number(band, len(names), uri) if isinstance(band, int) else _by_name(band, names, uri) for band in wanted)


def _by_number(number: int, count: int, uri: str) -> int:
    if not 1 <= number <= count:
        raise ConfigError(uri, f"has {count} bands, and band {number} was asked for", "choose others with --bands")
    return number


def _by_name(wanted: str, names: Sequence[str | None], uri: str) -> int:
    known = [name for name in names if name is not None and is_name(name)]
    found = [i for i, name in enumerate(names, 1) if name is not None and folded(name) == folded(wanted)]
    if not found and not known:
        raise UnnamedBandsError(uri, f"does not name its bands, and band {wanted!r} was asked for", "choose by number with --bands 1,2,3")
    if not found:
        raise ConfigError(uri, f"has no band {wanted!r}; its bands are {_closest_first(wanted, known)}", "choose among them with --bands")
    if len(found) > 1:
        raise ConfigError(uri, f"calls bands {' and '.join(map(str, found))} {wanted!r}", "choose by number with --bands")
    return found[0]


def _closest_first(wanted: str, known: Sequence[str]) -> str:
    """Up to 20 names in one text, the one most like the wanted one first and the others in the order of the file."""
    near = difflib.get_close_matches(folded(wanted), [folded(name) for name in known], n=1, cutoff=0.4)
    order = sorted(known, key=lambda name: folded(name) not in near)
    return ", ".join(order[:20]) + (f" and {len(order) - 20} more" if len(order) > 20 else "")


def usable_bands(src: rasterio.DatasetReader) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """All bands but alpha, and apart from them the dead ones: masked wherever the file was looked at.

    Hyperspectral products keep bands that hold nothing but nodata; one of them would mask every pixel.

    Returns:
        1-based numbers of the usable and of the dead bands.
    """
    bands = tuple(i for i, c in zip(src.indexes, src.colorinterp, strict=True) if c is not ColorInterp.alpha) or (1,)
    dead = _dead_bands(src, bands) if len(bands) > 1 else ()
    if len(dead) == len(bands):
        return bands, ()
    return tuple(i for i in bands if i not in dead), dead


def _dead_bands(src: rasterio.DatasetReader, bands: tuple[int, ...]) -> tuple[int, ...]:
    masked = tuple(i for i in bands if MaskFlags.nodata in src.mask_flag_enums[i - 1])
    alive: set[int] = set()
    for box in _spread_blocks(src) if masked else ():
        try:
            masks = src.read_masks(list(masked), window=box)
        except RasterioError:
            continue
        alive.update(np.array(masked)[masks.reshape(len(masked), -1).any(axis=1)].tolist())
    return tuple(i for i in masked if i not in alive)


def _spread_blocks(src: rasterio.DatasetReader) -> Iterator[RioWindow]:
    """Up to `SURVEY_BLOCKS` blocks, evenly spread."""
    height, width = src.block_shapes[0]
    n_rows, n_cols = -(-src.height // height), -(-src.width // width)
    for i in np.unique(np.linspace(0, n_rows * n_cols - 1, min(n_rows * n_cols, SURVEY_BLOCKS)).astype(int)):
        row, col = divmod(int(i), n_cols)
        box = RioWindow(col * width, row * height, width, height)
        yield box.intersection(RioWindow(0, 0, src.width, src.height))
