"""Which bands a screen shows, and how their values become shades: one way for pictures, reports and thumbnails."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from geoanom.raster.scene import Band

Bend = Literal["linear", "root", "logarithmic"]

LOWER, UPPER = 2, 98
"""Percentiles that become black and white."""
SKEWNESS = 0.5
"""Largest robust skewness of values that are shown as they are: one tail is then three times as long as the other."""
DECADE = 10
DECADES = 1e-3
"""Least value that a logarithm tells from zero, of the largest."""
SHADES = 255
MIDDLE = 128

NAMES = (("red", "r", "b4"), ("green", "g", "b3"), ("blue", "b", "b2"))
"""What bands are called that a screen shows as red, green and blue, as words in lower case without leading zeros."""
OLDER_NAMES = (("red", "r", "b3"), ("green", "g", "b2"), ("blue", "b", "b1"))
"""The same for Landsat 1 to 7, which number them otherwise."""
OLDER = re.compile(r"L[MTE]0?[1-7]")
NANOMETRES = (660.0, 560.0, 480.0)
WITHIN_NM = 60.0
WAVELENGTH = re.compile(r"(\d+(?:\.\d+)?)[\s_]*(nm|nanomet\w*|[µμu]m|micromet\w*|microns?)\b", re.IGNORECASE)
NOT_PLAIN = frozenset({"edge", "coastal", "nir", "near", "deep"})
"""Words that make another band of a colour's name."""
CO, CROSS = frozenset({"vv", "hh"}), frozenset({"vh", "hv"})
"""Polarizations that come back as they were sent, and those that come back turned."""
LONGEST_NAME = 24
SPECTRUM = 20
"""Bands from which on a scene without names is taken for a spectrum."""
SPREAD = (2 / 5, 1 / 5, 1 / 10)
"""Places in such a spectrum: near true colour if it ends in the near infrared, false colour if it goes on."""


@dataclass(frozen=True, kw_only=True)
class Composite:
    """The bands that are shown: one in grey; two polarizations with their ratio, or three, in colour."""

    positions: tuple[int, ...]
    """Of one, two or three bands, counted from 0."""
    names: tuple[str, ...]
    """What the shades show, one name or three."""
    natural: bool = False
    """The three are red, green and blue light."""

    @property
    def is_ratio(self) -> bool:
        """Two polarizations, and their ratio as blue."""
        return len(self.positions) == 2

    @property
    def label(self) -> str:
        """In words."""
        if len(self.names) == 1:
            return f"{self.names[0]} in grey"
        return f"{', '.join(self.names)} as red, green, blue"


def composite_of(bands: Sequence[Band], scene_name: str = "") -> Composite:
    """The bands that tell a person most: by colour names, by wavelengths in names, by polarizations, else by place.

    Args:
        bands: of the scene.
        scene_name: tells the older Landsats, whose B3 is red.
    """
    names = [band.name for band in bands]
    colours = _by_colour(names, OLDER_NAMES if OLDER.match(scene_name) else NAMES) or _by_wavelength(names)
    if colours:
        return Composite(positions=colours, names=tuple(_short(bands[i]) for i in colours), natural=True)
    pair = _polarizations(names)
    if pair:
        first, second = (_short(bands[i]) for i in pair)
        return Composite(positions=pair, names=(first, second, f"{first}/{second}"))
    chosen = _by_place(len(bands))
    return Composite(positions=chosen, names=tuple(_short(bands[i]) for i in chosen))


def _short(band: Band) -> str:
    """The name, or what a long one is about."""
    if len(band.name) <= LONGEST_NAME:
        return band.name
    length = _nanometres(band.name)
    return f"band {band.index}" + (f" ({length:.0f} nm)" if np.isfinite(length) else "")


def words_of(name: str) -> list[str]:
    """Words of a band's name in lower case, numbers without leading zeros: ``SR_B04`` gives sr, b4."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    return [re.sub(r"^b0+(?=\d)", "b", word) for word in re.findall(r"[a-z]+\d*[a-z]?|\d+", split)]


def _by_colour(names: Sequence[str], roles: Sequence[Sequence[str]]) -> tuple[int, ...] | None:
    words = [words_of(name) for name in names]
    plain = [() if NOT_PLAIN.intersection(word.rstrip("0123456789") for word in w) else tuple(w) for w in words]
    found = [next((i for word in role for i, w in enumerate(plain) if word in w), None) for role in roles]
    return _all_different(found)


def _by_wavelength(names: Sequence[str]) -> tuple[int, ...] | None:
    lengths = np.array([_nanometres(name) for name in names])
    if not np.isfinite(lengths).any():
        return None
    nearest = [int(np.nanargmin(np.abs(lengths - wanted))) for wanted in NANOMETRES]
    return _all_different(i if abs(lengths[i] - wanted) <= WITHIN_NM else None for i, wanted in zip(nearest, NANOMETRES, strict=True))


def _nanometres(name: str) -> float:
    match = WAVELENGTH.search(name)
    if match is None:
        return float("nan")
    return float(match[1]) * (1.0 if match[2].lower().startswith("n") else 1000.0)


def _all_different(found: Iterator[int | None] | list[int | None]) -> tuple[int, ...] | None:
    known = tuple(i for i in found if i is not None)
    return known if len(known) == len(set(known)) == len(NAMES) else None


def _polarizations(names: Sequence[str]) -> tuple[int, ...] | None:
    """The one band that came back as sent and the one that came back turned."""
    pair = [[i for i, name in enumerate(names) if kind.intersection(words_of(name))] for kind in (CO, CROSS)]
    return (pair[0][0], pair[1][0]) if all(len(found) == 1 for found in pair) else None


def _by_place(count: int) -> tuple[int, ...]:
    if count > SPECTRUM:
        return tuple(int(place * count) for place in SPREAD)
    return (0, 1, 2) if count >= len(NAMES) else (0,)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """From values to shades 0..255; never falls."""

    low: float
    high: float
    bend: Bend = "linear"

    def __call__(self, values: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Shades of the same shape: 0 up to `low`, 255 from `high` on; the middle where the two are one."""
        if not self.high > self.low:
            return np.full(values.shape, MIDDLE, np.uint8)
        low, high = _bent(np.array([self.low, self.high]), self.bend)
        bent = _bent(np.clip(values.astype(np.float64), self.low, self.high), self.bend)
        shades: NDArray[np.uint8] = np.clip((bent - low) / (high - low) * SHADES + 0.5, 0, SHADES).astype(np.uint8)
        return shades


@dataclass(frozen=True, kw_only=True)
class Look:
    """How the shown bands of one scene become a picture."""

    composite: Composite
    stretches: tuple[Stretch, ...]
    """One per colour, or one for grey."""
    decibels: bool = False
    """The ratio of two polarizations is the difference of their values."""

    @property
    def bend(self) -> Bend:
        """The same for all colours."""
        return self.stretches[0].bend

    def rgb(self, shown: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Red, green and blue (row, col, 3) of the shown bands (band, row, col)."""
        colours = [
            stretch(values) for stretch, values in zip(self.stretches, _colours(self.composite, shown, decibels=self.decibels), strict=True)
        ]
        return np.stack([colours[i % len(colours)] for i in range(3)], axis=-1)


def look_of(composite: Composite, sample: NDArray[np.generic]) -> Look:
    """The stretch that suits usable pixels.

    Bands are shown as they are between their 2nd and 98th percentile. Where the values of most are skewed between these (Hinkley 1975,
    doi:10.1093/biomet/62.1.101), as the speckle and strong echoes of radar are, their roots are shown, and where these still are, their
    logarithms; but not where they lie within a decade. Two polarizations are always shown in logarithms, or as they are when they come
    in dB.

    Args:
        composite: what is shown.
        sample: (shown band, n) of usable pixels; may be empty.
    """
    values = sample[:, np.isfinite(sample).all(axis=0)].astype(np.float64)
    if not values.size:
        return Look(composite=composite, stretches=(Stretch(low=0.0, high=1.0),) * len(composite.names))
    if composite.is_ratio:
        return _polarimetric_look(composite, values)
    limits = [_limits(band) for band in values]
    bend = _bend(values, limits)
    return Look(composite=composite, stretches=tuple(_stretch(low, high, bend) for low, high in _balanced(composite, limits)))


def _polarimetric_look(composite: Composite, values: NDArray[np.float64]) -> Look:
    decibels = bool((values < 0).mean() > LOWER / 100)
    ratio = _limits(_colours(composite, values, decibels=decibels)[2])
    bend: Bend = "linear" if decibels else "logarithmic"
    echoes = tuple(_stretch(*_limits(band), bend) for band in values)
    return Look(composite=composite, stretches=(*echoes, Stretch(low=ratio[0], high=ratio[1], bend=bend)), decibels=decibels)


def _colours(composite: Composite, shown: NDArray[np.generic], *, decibels: bool) -> list[NDArray[np.generic]]:
    """The shown bands, and the ratio of two."""
    if not composite.is_ratio:
        return list(shown)
    first, second = shown.astype(np.float64)
    ratio = first - second if decibels else np.divide(first, second, out=np.ones_like(first), where=second > 0)
    return [first, second, ratio]


def _limits(band: NDArray[Any]) -> tuple[float, float]:
    """The percentiles, or the extremes where most values are the same."""
    low, high = np.percentile(band, [LOWER, UPPER])
    return (float(low), float(high)) if high > low else (float(band.min()), float(band.max()))


def _balanced(composite: Composite, limits: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """For true colours a gain halfway between each one's own and a common one, above each one's own haze: hues neither lost nor shrill."""
    if not composite.natural:
        return limits
    common = float(np.mean([high - low for low, high in limits]))
    return [(low, low + float(np.sqrt(common * (high - low)))) for low, high in limits]


def _stretch(low: float, high: float, bend: Bend) -> Stretch:
    floor = high * DECADES if bend == "logarithmic" else low
    return Stretch(low=max(low, floor), high=high, bend=bend) if high > 0 else Stretch(low=low, high=high)


def _bend(values: NDArray[np.float64], limits: list[tuple[float, float]]) -> Bend:
    """The least bend under which most bands are not skewed; none within a decade, where it would change little."""
    if min(low for low, _ in limits) < 0 or max(high - DECADE * low for low, high in limits) < 0:
        return "linear"
    bends: tuple[Bend, ...] = ("linear", "root", "logarithmic")
    return next((bend for bend in bends if _skewness(values, limits, bend) <= SKEWNESS), "logarithmic")


def _skewness(values: NDArray[np.float64], limits: list[tuple[float, float]], bend: Bend) -> float:
    """The median band's: how much longer the upper tail is than the lower, of both; -1 to 1."""
    marks = np.array([(low, np.median(band), high) for band, (low, high) in zip(values, limits, strict=True)])
    low, middle, high = _bent(np.maximum(marks, marks[:, 2:] * DECADES), bend).T
    return float(np.median(np.divide(high + low - 2 * middle, high - low, out=np.zeros_like(low), where=high > low)))


def _bent(values: NDArray[np.float64], bend: Bend) -> NDArray[np.float64]:
    if bend == "linear":
        return values
    bent: NDArray[np.float64] = np.sqrt(values) if bend == "root" else np.log(values)
    return bent
