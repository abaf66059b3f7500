"""A layer as a heatmap: the scores of its tiles where it has them, else its anomalies burnt with theirs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from affine import Affine
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError
from rasterio.features import rasterize
from rasterio.windows import Window as RioWindow

from geoanom.errors import InputError
from geoanom.layer.cog import Heat, about, placed, write_cog
from geoanom.raster.georef import Georeference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.layer.features import Feature, Features

MOST_CELLS = 2**29
"""Larger heatmaps are refused, as they would not fit into memory."""
LEAST_AREA = 1e-6
"""Cells; what shares less with the scene only touches it."""
HEATMAP = "let the run write its heatmap (--heatmap)"


def write(features: Features, path: Path) -> None:
    """Write the heatmap of a layer of one scene, in the scene's CRS, a pixel for each tile's core.

    A layer with tiles gives their scores, as `write_heatmap` does, with four digits. Any other gives its anomalies: the cells whose
    centres lie in an outline, and the one that holds a point inside it, have its score, the highest where several meet; all others are
    nodata.

    Raises:
        InputError: the layer has several scenes, or does not tell where its scene lies.
        OutputError: it could not be written, or does not read back.
    """
    ground = _ground_of(features.provenance, path)
    values = ground.blank()
    if features.tiles is None:
        _burn(features, ground, values)
    else:
        _lay(features.tiles, ground, values)
    heat = Heat(
        height=ground.height,
        width=ground.width,
        place=placed(ground.georef, ground.stride),
        bands=("score",),
        about=ground.about,
        n_scored=int(np.isfinite(values).sum()),
        strips=lambda: iter([(RioWindow(0, 0, ground.width, ground.height), values[None])]),
    )
    write_cog(heat, path)


def check_place(georef: Georeference, path: Path) -> None:
    """Refuse a scene of which no layer can make a heatmap, before any work is done for it.

    Raises:
        InputError: the scene lies by ground control points, which layers do not tell.
    """
    if georef.gcps:
        raise InputError(path, "cannot be made from a layer: its scene lies by ground control points", HEATMAP)


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """The cells of a scene."""

    path: Path
    """What is to be written, for messages."""
    georef: Georeference
    """Of the scene's pixels."""
    height: int
    """Cells."""
    width: int
    """Cells."""
    stride: int
    """Pixels along the side of a cell."""
    about: Mapping[str, str]

    def blank(self) -> NDArray[np.float32]:
        """A value for each cell, all unknown."""
        return np.full((self.height, self.width), np.nan, np.float32)

    def cells(self, lonlat: NDArray[np.float64], turn: int) -> NDArray[np.float64]:
        """Longitudes and latitudes, or pixel corners in pixel space, as cell corners (n, 2), column and row."""
        x, y = lonlat.T if self._from_wgs84 is None else self._from_wgs84.transform(*lonlat.T)
        cols, rows = ~self.georef.transform @ (np.asarray(x) + 360.0 * turn, np.asarray(y))
        return np.column_stack([cols, rows]) / self.stride

    @property
    def turns(self) -> tuple[int, ...]:
        """Whole turns around the Earth after which coordinates of the scene may mean the same place."""
        return (-1, 0, 1) if self.georef.crs is not None and self.georef.crs.is_geographic else (0,)

    @cached_property
    def _from_wgs84(self) -> Transformer | None:
        return None if self.georef.crs is None else Transformer.from_crs(CRS.from_epsg(4326), self.georef.crs, always_xy=True)


def _ground_of(provenance: Mapping[str, Any], path: Path) -> _Ground:
    """The cells of a layer's only scene, from what the layer tells."""
    scenes = provenance.get("scenes") or ()
    if len(scenes) > 1:
        raise InputError(path, f"shows one scene, and the layer has {len(scenes)}", "score each scene into a layer of its own")
    if not scenes or "stride" not in provenance or "shape" not in scenes[0]:
        raise InputError(
            path, "needs the place of the scene, which this layer does not tell", f"name a GeoJSON or GeoPackage, or {HEATMAP}"
        )
    try:
        return _checked(provenance, scenes[0], path)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, CRSError) as error:
        raise InputError(path, f"cannot be made, as the layer tells a scene that cannot be ({error})", "export it again") from error


def _checked(provenance: Mapping[str, Any], scene: Mapping[str, Any], path: Path) -> _Ground:
    (height, width), stride = scene["shape"], provenance["stride"]
    crs, transform = scene["crs"], scene["transform"]
    if crs is not None and transform is None:
        raise InputError(path, "cannot be made from this layer: its scene lies by ground control points", HEATMAP)
    n_rows, n_cols = -(-int(height) // int(stride)), -(-int(width) // int(stride))
    if min(n_rows, n_cols) < 1 or n_rows * n_cols > MOST_CELLS:
        raise ValueError(f"{height} x {width} pixels, stride {stride}")
    place = Affine.identity() if crs is None else Affine(*map(float, transform))
    if place.determinant == 0 or not np.isfinite(place[:6]).all():
        raise ValueError("its pixels have no area")
    georef = Georeference(crs_wkt=None if crs is None else CRS.from_user_input(crs).to_wkt(), transform=place)
    told = {"MODEL_ID": provenance.get("model_id"), "TILE_SIZE": provenance.get("tile_size"), "ACQUISITION_DATETIME": scene["datetime"]}
    tags = about(scene["name"], scene["digest"], int(stride), **{name: str(value) for name, value in told.items() if value is not None})
    return _Ground(path=path, georef=georef, height=n_rows, width=n_cols, stride=int(stride), about=tags)


def _lay(tiles: Callable[[], Iterator[Feature]], ground: _Ground, values: NDArray[np.float32]) -> None:
    """Each tile's score on its cell."""
    for tile in tiles():
        row, col, score = (_told(tile, name, "tile_id", ground.path) for name in ("row", "col", "score"))
        if not (0 <= row < ground.height and 0 <= col < ground.width):
            raise InputError(ground.path, f"has no cell for the tile at row {row}, column {col}", "export the layer again")
        values[row, col] = score


def _told(feature: Feature, name: str, identity: str, path: Path) -> Any:
    """A property that must be known."""
    value = feature.properties.get(name)
    if value is None:
        raise InputError(path, f"cannot be made: {feature.properties.get(identity)} of the layer has no {name}", "export the layer again")
    return value


def _burn(features: Features, ground: _Ground, values: NDArray[np.float32]) -> None:
    """Each anomaly's score on its cells."""
    for group in features.groups():
        shapes = np.array([feature.geometry for feature in group], object)
        scores = np.array([_told(feature, "score", "anomaly_id", ground.path) for feature in group], np.float32)
        met = np.zeros(len(group), bool)
        for turn in ground.turns:
            met |= _burn_turn(shapely.transform(shapes, partial(ground.cells, turn=turn)), scores, values)
        if not met.all():
            lost = group[int(met.argmin())].properties.get("anomaly_id")
            raise InputError(ground.path, f"cannot show the anomaly {lost}, which lies outside of its scene", "check the layer")


def _burn_turn(shapes: NDArray[np.object_], scores: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Burn the parts of shapes (n,) in cell corners that lie on the cells; which of them do, (n,)."""
    height, width = values.shape
    within = shapely.intersection(shapely.make_valid(shapes), shapely.box(0, 0, width, height))
    met: NDArray[np.bool_] = shapely.area(within) > LEAST_AREA
    order = np.flatnonzero(met)[np.argsort(scores[met], kind="stable")]
    if len(order):
        burnt = rasterize(zip(within[order], scores[order], strict=True), values.shape, fill=np.nan, dtype="float32")
        np.fmax(values, burnt, out=values)
        cols, rows = np.floor(shapely.get_coordinates(shapely.point_on_surface(within[order]))).astype(int).T
        np.fmax.at(values, (rows.clip(0, height - 1), cols.clip(0, width - 1)), scores[order])
    return met
