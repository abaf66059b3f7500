"""A quality raster beside a scene, as the settings name it, and the pixels it rejects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import rasterio

from geoanom.errors import SceneError
from geoanom.raster.compose import masked_by
from geoanom.raster.regrid import regridded
from geoanom.raster.scene import Band
from geoanom.sources.checks import survey_blocks
from geoanom.sources.geotiff import MAGIC, PALETTE_BANDS, open_raster
from geoanom.sources.handle import RasterHandle, Reading

if TYPE_CHECKING:
    from geoanom.config import Config
    from geoanom.config.reading import Quality
    from geoanom.raster.scene import Scene


def with_quality(scene: Scene, config: Config) -> Scene:
    """The scene without the pixels that the quality raster beside it rejects or does not know; the scene itself when none is named.

    Raises:
        SceneError: there is no such raster, it lies elsewhere, or it cannot be used.
    """
    rule = config.sources.qa
    if rule is None:
        return scene
    quality = _laid_over(_opened(quality_path(scene.uri, rule), rule, config), scene)
    return masked_by(scene, regridded(quality, scene.georef, scene.height, scene.width, "nearest"), reject=rule.reject, bits=rule.bits)


def quality_path(uri: str, rule: Quality) -> Path:
    """Where the quality raster of a scene lies.

    Raises:
        SceneError: nowhere, or outside the scene's folder while the settings do not name the place in full.
    """
    if "://" in uri or uri.startswith("/vsi"):
        raise SceneError(uri, "is remote, and a quality raster can only lie beside a local scene", "download both")
    scene = Path(uri).absolute()
    named = Path((rule.path or f"{{stem}}{rule.suffix}").replace("{stem}", scene.stem))
    path = scene.parent / named
    if not named.is_absolute() and not path.resolve().is_relative_to(scene.parent.resolve()):
        raise SceneError(uri, f"has its quality raster outside its folder, at {named}", "give sources.qa.path as an absolute path")
    if not path.is_file():
        raise SceneError(uri, f"lacks its quality raster {path}", "put it there, or change sources.qa")
    return path


def _opened(path: Path, rule: Quality, config: Config) -> Scene:
    """One band as it is stored: pixel space is allowed, as a raster of the scene's own shape needs no place."""
    sources = config.sources.model_copy(update={"pixel_space": True, "qa": None})
    plain = config.model_copy(update={"sources": sources})
    quality = open_raster(str(path), plain.model_copy(update={"bands": (rule.band,)}))
    if quality is None:  # pragma: no cover - it opens or raises
        raise SceneError(path, "is no raster", "name a raster file")
    return _as_indexes(quality, path) if quality.bands[0].name in PALETTE_BANDS else quality


def _as_indexes(scene: Scene, path: Path) -> Scene:
    """A palette image as the numbers of its classes, not their colours."""
    with path.open("rb") as file:
        start = file.read(16)
    driver = next(driver for magic, driver in MAGIC.items() if start.startswith(magic))
    with rasterio.open(path, driver=driver, sharing=False) as src:
        blocks, dtype = survey_blocks(src, (1,), path.stat().st_size, scene.uri), src.dtypes[0]
    reading = Reading(path=path, driver=driver, indexes=(1,), dead=(), scales=(1.0,), offsets=(0.0,), dtype=dtype)
    bands = (Band(index=1, name="class", dtype=dtype),)
    return replace(scene, bands=bands, warnings=(), open_handle=lambda: RasterHandle(reading, blocks))


def _laid_over(quality: Scene, scene: Scene) -> Scene:
    """The quality raster in the scene's place, where it has none of its own but the same shape."""
    kept = replace(quality, warnings=tuple(text for text in quality.warnings if not text.startswith("scored in pixel space")))
    if not quality.georef.is_pixel_space:
        return kept
    if (quality.height, quality.width) != (scene.height, scene.width):
        ours, theirs = f"{scene.height} x {scene.width}", f"{quality.height} x {quality.width}"
        what = f"has no place on the Earth, and {theirs} pixels where {scene.name} has {ours}"
        raise SceneError(quality.uri, what, "georeference it")
    return replace(kept, georef=scene.georef)
