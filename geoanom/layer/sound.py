"""What a file of a layer says, made sound before anyone works with it: a damaged file ends in one line that names it."""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing
from functools import partial
from itertools import groupby, repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyogrio
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError

from geoanom.errors import InputError, one_line
from geoanom.layer.arrow import type_of
from geoanom.layer.features import Feature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Groups = Callable[[], Iterator[list[Feature]]]

BROKEN = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
    OverflowError,
    RuntimeError,
    pa.ArrowException,
    shapely.errors.ShapelyError,
    CRSError,
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    pyogrio.errors.FeatureError,
    sqlite3.Error,
)
"""What reading a damaged file raises."""
WHOLE_LIMIT = 2**63
"""Whole numbers have 64 bits in every format."""
LONGEST_REASON = 200
"""Characters; some libraries quote the whole file."""
WGS84 = CRS.from_epsg(4326)


def unreadable(path: Path, error: Exception) -> InputError:
    """The line that tells of a damaged file."""
    reason = one_line(str(error))[:LONGEST_REASON] or type(error).__name__
    return InputError(path, f"is not a readable layer ({reason})", "export it again")


def guarded(path: Path, groups: Groups) -> Iterator[Feature]:
    """The features of all groups; what is wrong with the file is told as such, and errors of who takes the features stay theirs.

    Raises:
        InputError: the file is damaged.
    """
    source: Iterator[list[Feature]] | None = None
    while True:
        try:
            source = groups() if source is None else source
            group = next(source, None)
        except BROKEN as error:
            raise unreadable(path, error) from error
        if group is None:
            return
        yield from group


def check_degrees(crs: Any) -> None:
    """Refuse coordinates that are no longitudes and latitudes; a layer that names no CRS is in these or in pixels.

    Raises:
        ValueError: they are not.
        CRSError: the CRS cannot be understood.
    """
    if crs is not None and not CRS.from_user_input(crs).equals(WGS84, ignore_axis_order=True):
        raise ValueError("its CRS is not WGS 84 longitude and latitude; reproject it to EPSG:4326")


def check_pages(path: Path) -> None:
    """Refuse a GeoPackage with damaged pages, whose CRS or rows GDAL may leave out with no more than a warning.

    Tables are checked one by one, since a check of the whole needs the modules of its virtual tables.

    Raises:
        ValueError: SQLite finds a fault in a table.
        Error: (of sqlite3) it is no database.
    """
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        for (table,) in database.execute("SELECT quote(name) FROM sqlite_master WHERE type = 'table' AND rootpage > 0").fetchall():
            (found,) = database.execute(f"PRAGMA quick_check({table})").fetchone()
            if found != "ok":
                raise ValueError(f"damaged: {found}")


def check_told(provenance: Any) -> None:
    """Refuse what no layer tells of itself and of its scenes.

    Raises:
        TypeError: it is no object.
        ValueError: it cannot be worked with, or written again.
    """
    if not isinstance(provenance, dict):
        raise TypeError("what it tells of itself is no object")
    scenes = provenance.get("scenes", [])
    if not isinstance(scenes, list) or not all(isinstance(scene, dict) and isinstance(scene.get("name", ""), str) for scene in scenes):
        raise ValueError("its scenes are no list of objects with names")
    _encoded(provenance)


def sound(features: Sequence[Feature]) -> list[Feature]:
    """The features with sound places and properties, in their order.

    Raises:
        ValueError: one cannot be what it is said to be.
        TypeError: a property is of a kind that numbers are not made from.
    """
    checked: list[Feature] = []
    for names, alike in groupby(features, key=lambda feature: tuple(feature.properties)):
        run = list(alike)
        columns = list(map(list, zip(*(feature.properties.values() for feature in run), strict=True)))
        checked += sound_table(np.array([feature.geometry for feature in run], object), names, columns)
    return checked


def sound_table(shapes: NDArray[np.object_], names: Sequence[str], columns: Sequence[list[Any]]) -> list[Feature]:
    """Features of shapes (n,) and columns of n values each.

    Raises:
        ValueError: one cannot be what it is said to be.
        TypeError: a property is of a kind that numbers are not made from.
    """
    "".join(names).encode()
    values = [sound_column(name, column) for name, column in zip(names, columns, strict=True)]
    records = zip(*values, strict=True) if values else repeat(())
    return [Feature(found, dict(zip(names, record, strict=True))) for found, record in zip(_sound_shapes(shapes), records, strict=False)]


def sound_column(name: str, values: list[Any]) -> list[Any]:
    """A column in the type that its name tells, whatever a format made of it; what is no number is unknown.

    Raises:
        ValueError: a value is no number where one must be, too large, or no text that can be written.
        TypeError: a value is of a kind that numbers are not made from.
    """
    kind = type_of(name)
    if pa.types.is_string(kind):
        return _texts(values)
    return _whole(name, values) if pa.types.is_integer(kind) else _real(name, values)


def _texts(values: list[Any]) -> list[Any]:
    if set(map(type, values)) <= {str, type(None)}:
        "".join(filter(None, values)).encode()
        return values
    return list(map(_scalar, values))


def _scalar(value: Any) -> Any:
    """A value of an unknown column as JSON can hold it; what it has no word for, like dates, as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | dict | list):
        _encoded(value)
    return value if value is None or isinstance(value, str | dict | list | int) else str(value)


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _whole(name: str, values: list[Any]) -> list[int | None]:
    if not set(map(type, values)) <= {int, type(None)}:
        values = list(map(partial(_number, name, int), values))
    known = [value for value in values if value is not None]
    if known and not -WHOLE_LIMIT <= min(known) <= max(known) < WHOLE_LIMIT:
        raise ValueError(f"a {name} has more than 64 bits")
    return values


def _real(name: str, values: list[Any]) -> list[float | None]:
    if not set(map(type, values)) <= {float, type(None)}:
        values = list(map(partial(_number, name, float), values))
    if np.isfinite(np.array(values, float)).all():
        return values
    return [None if value is None or not math.isfinite(value) else value for value in values]


def _number(name: str, kind: type[int | float], value: Any) -> int | float | None:
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return None
    try:
        return kind(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{value!r:.40} is no {name}") from error


def _sound_shapes(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Shapes (n,), None for those without any point, which RFC 7946 takes for no place."""
    if not np.isfinite(shapely.get_coordinates(shapes)).all():
        raise ValueError("a coordinate is not finite")
    flat: NDArray[np.object_] = np.asarray(shapely.force_2d(shapes), object) if shapely.has_z(shapes).any() else shapes.copy()
    flat[shapely.is_empty(flat)] = None
    return flat
