"""``geoanom info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geoanom.cli.info_text import echo_lines, model_lines, scene_lines
from geoanom.cli.main import echo_json
from geoanom.cli.options import CONFIGURE, CUT, READ, RUN, config_from, options
from geoanom.errors import ExitCode

if TYPE_CHECKING:
    from geoanom.config import Config
    from geoanom.raster.georef import Georeference
    from geoanom.raster.scene import Band, Scene
    from geoanom.raster.summary import BandSummary

STATISTICS = ("minimum", "p02", "median", "p98", "maximum")
EDGE_POINTS = 65
"""Points along the middle row and column of a scene, which may go around the Earth."""
FORMATS = {"GTiff": "GeoTIFF", "JP2OpenJPEG": "JPEG 2000", "HFA": "Erdas Imagine"}
COG_MARKS = (b"LAYOUT=IFDS_BEFORE_DATA", b"KNOWN_INCOMPATIBLE_EDITION=NO")
"""What GDAL's driver writes behind the header of a COG that nobody has edited."""


@click.command()
@click.argument("path")
@options(CONFIGURE, CUT[:2], READ, RUN)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(path: str, *, as_json: bool, **given: Any) -> int:
    """Tell what PATH is: a scene with its size, place, bands, validity and warnings, or a model.

    A pixel is usable where every band has a value. Percentiles and histograms are of a sample of 200,000 usable pixels, and fewer of more
    than 40 bands; the rest is of all of them.

    \b
    --json prints for a scene
      scene, kind, sha256    name, format or product, digest of the content
      height, width          in pixels; height_km, width_km through the middle
      crs, crs_code          name and code, such as EPSG:32618
      resolution_m           side of a pixel
      centre                 [lon, lat] in degrees
      datetime               acquisition, ISO 8601
      bands                  a list: index, name, dtype, minimum, p02, median,
                             p98, maximum, saturated_fraction, and histogram:
                             low, high, counts (the ends hold what lies beyond)
      band_count             bands in the file
      valid_fraction         share of usable pixels
      sampled_pixels         that percentiles and histograms are of
      tiles                  in all; tiles_scored, tiles_masked by a run
      tile_size, stride      in pixels
      warnings               a list of sentences
    What is not known is null.
    """  # noqa: D301 - click's mark for a paragraph that is not wrapped
    config = config_from(given, (path,))
    is_model = (Path(path) / "model.json").is_file()
    facts = _model_facts(Path(path)) if is_model else _scene_facts(path, config)
    if as_json:
        echo_json(facts)
    else:
        echo_lines(model_lines(facts) if is_model else scene_lines(facts))
    return ExitCode.DONE


def _scene_facts(path: str, config: Config) -> dict[str, Any]:
    from geoanom.raster.scene import open_scene
    from geoanom.raster.summary import summarize

    scene = open_scene(path, config)
    summary, grid = summarize(scene, config), scene.grid(config)
    return {
        "scene": scene.name,
        "kind": _kind_of(path),
        "sha256": scene.digest,
        "height": scene.height,
        "width": scene.width,
        **_place(scene),
        "datetime": scene.datetime,
        "bands": [_band_facts(band) for band in summary.bands] or [_band_unknown(band) for band in scene.bands],
        "band_count": scene.band_count,
        "valid_fraction": round(summary.n_valid / (scene.height * scene.width), 4),
        "sampled_pixels": summary.n_sampled,
        "tiles": len(grid),
        "tiles_scored": summary.tiles_scored,
        "tiles_masked": summary.tiles_masked,
        "tile_size": grid.size,
        "stride": grid.stride,
        "warnings": list(summary.warnings),
    }


def _kind_of(path: str) -> str:
    """What a source sees in a path, in words."""
    from geoanom.sources.landsat import is_landsat
    from geoanom.sources.remote import is_remote
    from geoanom.sources.sentinel2 import is_safe
    from geoanom.sources.stac import is_item_uri

    if is_remote(path):
        return "STAC item" if is_item_uri(path) else "GeoTIFF on another machine"
    local = Path(path)
    products = {"Sentinel-2 product": is_safe(local), "Landsat product": is_landsat(local), "STAC item": is_item_uri(path)}
    return next((name for name, is_one in products.items() if is_one), None) or _format_of(local)


def _format_of(path: Path) -> str:
    """The format of a raster file."""
    from geoanom.sources.geotiff import MAGIC

    if not path.is_file():
        return "raster"
    if path.suffix.lower() == ".vrt":
        return "VRT"
    with path.open("rb") as file:
        start = file.read(512)
    driver = next((driver for magic, driver in MAGIC.items() if start.startswith(magic)), "ENVI")
    return "Cloud Optimized GeoTIFF" if driver == "GTiff" and all(mark in start for mark in COG_MARKS) else FORMATS.get(driver, driver)


def _place(scene: Scene) -> dict[str, Any]:
    georef, (height, width) = scene.georef, (scene.height, scene.width)
    code = georef.crs_name
    return {
        "height_km": _length_km(georef, (width / 2, width / 2), (0, height)),
        "width_km": _length_km(georef, (0, width), (height / 2, height / 2)),
        "centre": _lonlat(georef, width / 2, height / 2),
        "crs": None if georef.crs is None else georef.crs.name,
        "crs_code": None if code is None or "[" in code else code,  # a CRS that no register has is told as WKT
        "resolution_m": None if scene.resolution_m is None else round(scene.resolution_m, 3),
    }


def _length_km(georef: Georeference, cols: tuple[float, float], rows: tuple[float, float]) -> float | None:
    """Geodesic length of a line of pixels; None where it has no place or leaves the Earth."""
    if georef.is_pixel_space:
        return None
    import numpy as np

    from geoanom.raster.georef import WGS84

    lon, lat = georef.lonlat(np.linspace(*cols, EDGE_POINTS), np.linspace(*rows, EDGE_POINTS))
    return round(float(WGS84.line_length(lon, lat)) / 1000, 3) if np.isfinite([lon, lat]).all() else None


def _lonlat(georef: Georeference, col: float, row: float) -> list[float] | None:
    """Of a pixel corner, in degrees; None where it has no place."""
    if georef.is_pixel_space:
        return None
    import numpy as np

    lon, lat = (float(v[0]) for v in georef.lonlat(np.array([col]), np.array([row])))
    return [round((lon + 180) % 360 - 180, 6), round(lat, 6)] if np.isfinite([lon, lat]).all() else None


def _band_names(band: Band) -> dict[str, Any]:
    return {"index": band.index, "name": band.name, "dtype": band.dtype}


def _band_facts(summary: BandSummary) -> dict[str, Any]:
    histogram = summary.histogram
    return {
        **_band_names(summary.band),
        **{key: getattr(summary, key) for key in STATISTICS},
        "saturated_fraction": round(summary.saturated_fraction, 6),
        "histogram": {"low": histogram.low, "high": histogram.high, "counts": list(histogram.counts)},
    }


def _band_unknown(band: Band) -> dict[str, Any]:
    return {**_band_names(band), **dict.fromkeys((*STATISTICS, "saturated_fraction", "histogram"))}


def _model_facts(folder: Path) -> dict[str, Any]:
    from geoanom.model.bundle import load_model

    model = load_model(folder, "cpu")
    return {
        "model": model.model_id,
        "backbone": model.config.embed.backbone,
        "dim": model.config.embed.dim,
        "bands": [_band_names(band) for band in model.bands],
        "dtype": model.dtype,
        "resolution_m": None if model.resolution_m is None else round(model.resolution_m, 3),
        "tile_size": model.config.tiles.size,
        "stride": model.config.tiles.step,
        "members": list(model.member_names),
        "tiles_fitted": len(model.reference.halves),
        "scenes": [{"name": scene.name, "sha256": scene.digest} for scene in model.scenes],
    }
