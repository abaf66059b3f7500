"""Landsat Collection 2 products, levels 1 and 2, as folders of GeoTIFFs beside a metadata file.

Names, elements and values follow the Collection 2 Level 2 Science Product Guides for Landsat 8-9 (USGS, LSDS-1619) and the Level 2
Data Format Control Book (USGS, LSDS-1328), which repeats the elements of level 1: real units are
``DN * MULT + ADD``, DN 0 is fill. Reflectance of level 1 is that of the product, without correction for the sun's height.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from geoanom.errors import SceneError
from geoanom.raster.compose import masked_by, scaled, stacked
from geoanom.raster.regrid import on_finest_grid, regridded
from geoanom.sources.bands import band_numbers
from geoanom.sources.dates import acquisition_datetime
from geoanom.sources.geotiff import open_raster
from geoanom.sources.product import AGAIN, Folder, number_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from geoanom.config import Config
    from geoanom.raster.scene import Scene

METADATA = re.compile(r"(?P<product>L[COTEM]0[1-9]_L[12]\w\w_\d{6}_\d{8}_\d{8}_02_\w\w)_MTL\.(?P<kind>txt|json)", re.IGNORECASE)
FOLDER = re.compile(r"L[COTEM]0[1-9]_L[12]\w\w_\d{6}_\d{8}_\d{8}_02_\w\w", re.IGNORECASE)
ROOT = "LANDSAT_METADATA_FILE"
COLOURS = {"OLI": ("2", "3", "4", "5"), "TM": ("1", "2", "3", "4"), "ETM": ("1", "2", "3", "4")}
"""Blue, green, red and near infrared by the first word of SENSOR_ID."""
UNITS = {
    1: (("LEVEL1_RADIOMETRIC_RESCALING", "REFLECTANCE"), ("LEVEL1_RADIOMETRIC_RESCALING", "RADIANCE")),
    2: (("LEVEL2_SURFACE_REFLECTANCE_PARAMETERS", "REFLECTANCE"), ("LEVEL2_SURFACE_TEMPERATURE_PARAMETERS", "TEMPERATURE")),
}
"""By level: where a band's scale and offset stand, the first that has them. Level 2 repeats the groups of its level 1 ancestor."""
FILL = 0.0
STATEMENT = re.compile(r'\s*(?P<key>\w+)\s*=\s*(?:"(?P<text>[^"]*)"|(?P<word>\S+))\s*')


def is_landsat(path: Path) -> bool:
    """Is this a folder with one Landsat Collection 2 product, or the metadata file in one? Told by names alone."""
    try:
        if path.is_dir():
            return bool(FOLDER.fullmatch(path.name)) or len({match["product"] for match in _metadata_files(path)}) == 1
        return bool(METADATA.fullmatch(path.name)) and path.is_file()
    except (OSError, ValueError):
        return False


def _metadata_files(folder: Path) -> Iterator[re.Match[str]]:
    return (match for match in map(METADATA.fullmatch, sorted(path.name for path in folder.iterdir())) if match)


def open_landsat(uri: str, config: Config) -> Scene | None:
    """Open a product: the chosen bands in real units on the finest grid among them, what QA_PIXEL flags masked.

    Raises:
        SceneError: it lacks a file, is damaged or made to do harm.
        ConfigError: a band is asked for that it does not have.
    """
    path = Path(uri)
    if not is_landsat(path):
        return None
    product = Folder(uri, path if path.is_dir() else path.parent)
    metadata = _metadata_of(product, None if path.is_dir() else path.name)
    names = tuple(metadata.bands)
    chosen = [_in_full(band, names) for band in config.bands] if config.bands else metadata.colours(uri)
    numbers = band_numbers(chosen, names, uri)
    plain = config.model_copy(update={"bands": None})
    parts = [_real_units(product, names[number - 1], metadata, plain) for number in numbers]
    scene = stacked(on_finest_grid(parts, config.sources.resampling), uri=uri, name=metadata.product, datetime=metadata.datetime)
    bands = tuple(replace(band, index=n, name=names[n - 1]) for band, n in zip(scene.bands, numbers, strict=True))
    return _without_clouds(replace(scene, bands=bands, band_count=len(names)), product, metadata, plain)


def _in_full(band: int | str, names: tuple[str, ...]) -> int | str:
    """``B2`` is SR_B2 and ``B10`` is ST_B10 where the product names them so."""
    full = (f"{prefix}{band}".upper() for prefix in ("", "SR_", "ST_"))
    return next((name for name in full if name in names), band)


def _real_units(product: Folder, name: str, metadata: _Metadata, config: Config) -> Scene:
    scale, offset = metadata.units(name, product.uri)
    return scaled(_opened(product, metadata.bands[name].file, config), (scale,), (offset,), (FILL,))


def _opened(product: Folder, file: str, config: Config) -> Scene:
    path = str(product.path_of(file))
    scene = open_raster(path, config)
    if scene is None or len(scene.bands) != 1:
        raise SceneError(path, "is not a raster of one band", AGAIN)
    return scene


def _without_clouds(scene: Scene, product: Folder, metadata: _Metadata, config: Config) -> Scene:
    if not config.sources.qa_pixel_bits:
        return scene
    quality = _opened(product, metadata.quality(product.uri), config)
    on_grid = regridded(quality, scene.georef, scene.height, scene.width, "nearest")
    return masked_by(scene, on_grid, bits=config.sources.qa_pixel_bits)


@dataclass(frozen=True)
class _BandFile:
    key: str
    """What follows FILE_NAME_BAND_ in the metadata."""
    file: str


@dataclass(frozen=True, kw_only=True)
class _Metadata:
    """What the metadata file says of a product."""

    product: str
    groups: Mapping[str, Mapping[str, str]]
    bands: Mapping[str, _BandFile]
    """By name, as in the file names: B2, SR_B2, ST_B10."""

    @property
    def level(self) -> int:
        """1 or 2."""
        return int(self.product.split("_")[1][1])

    @property
    def datetime(self) -> str | None:
        """Of the scene's centre, ISO 8601."""
        image = self.groups.get("IMAGE_ATTRIBUTES", {})
        moment = f"{image.get('DATE_ACQUIRED', '')}T{image.get('SCENE_CENTER_TIME', '')}"
        seconds = re.sub(r"\.\d+", "", moment)  # they have seven decimals, which no parser takes
        return acquisition_datetime({"ACQUISITION_DATETIME": seconds}, self.product)

    def colours(self, uri: str) -> list[str]:
        """The names of the blue, green, red and near infrared bands of the sensor; all bands of one that has no such four.

        Raises:
            SceneError: the product lacks one of them.
        """
        sensor = self.groups.get("IMAGE_ATTRIBUTES", {}).get("SENSOR_ID", "").split("_")[0]
        keys = COLOURS.get(sensor)
        by_key = {band.key: name for name, band in self.bands.items()}
        if keys is None:
            return list(self.bands)
        missing = [key for key in keys if key not in by_key]
        if missing:
            raise SceneError(uri, f"lists no file of band {', '.join(missing)} in its metadata", AGAIN)
        return [by_key[key] for key in keys]

    def units(self, name: str, uri: str) -> tuple[float, float]:
        """Scale and offset of a band.

        Raises:
            SceneError: the metadata have none.
        """
        key = self.bands[name].key
        for group, what in UNITS[self.level]:
            values = self.groups.get(group, {})
            scale, offset = values.get(f"{what}_MULT_BAND_{key}"), values.get(f"{what}_ADD_BAND_{key}")
            if scale is not None and offset is not None:
                return number_of(scale, f"{what}_MULT_BAND_{key}", uri), number_of(offset, f"{what}_ADD_BAND_{key}", uri)
        raise SceneError(uri, f"has no scale and offset of {name} in its metadata", AGAIN)

    def quality(self, uri: str) -> str:
        """The file of QA_PIXEL.

        Raises:
            SceneError: the metadata list none.
        """
        file = self.groups["PRODUCT_CONTENTS"].get("FILE_NAME_QUALITY_L1_PIXEL")
        if file is None:
            way_out = f"{AGAIN}, or use it unmasked with --set 'sources.qa_pixel_bits=[]'"
            raise SceneError(uri, "lists no QA_PIXEL file in its metadata", way_out)
        return _plain_name(file, uri)


def _metadata_of(product: Folder, file: str | None) -> _Metadata:
    matches = [METADATA.fullmatch(file)] if file else list(_metadata_files(product.root))
    match = next((match for match in matches if match), None)
    if match is None:
        raise SceneError(product.uri, "lacks the metadata file *_MTL.txt or *_MTL.json", AGAIN)
    text = text_of(product, match.string)
    groups = _groups_of_json(text, product.uri) if match["kind"].lower() == "json" else _groups_of_text(text)
    contents = groups.get("PRODUCT_CONTENTS")
    if contents is None:
        raise SceneError(product.uri, f"has metadata without the group PRODUCT_CONTENTS, {match.string}", "name a product of Collection 2")
    return _Metadata(product=match["product"], groups=groups, bands=dict(_band_files(contents, match["product"], product.uri)))


def _band_files(contents: Mapping[str, str], product: str, uri: str) -> Iterator[tuple[str, _BandFile]]:
    for key, file in contents.items():
        if key.startswith("FILE_NAME_BAND_"):
            name = PurePosixPath(_plain_name(file, uri)).stem.removeprefix(f"{product}_")
            yield name.upper(), _BandFile(key.removeprefix("FILE_NAME_BAND_"), file)


def _plain_name(file: str, uri: str) -> str:
    if PurePosixPath(file).name != file or "\\" in file:
        raise SceneError(uri, f"names a file outside the product, {file!r}", "do not use it: it is damaged, or made to do harm")
    return file


def _groups_of_text(text: str) -> dict[str, dict[str, str]]:
    """The innermost groups of the ``KEY = value`` form, in which groups are bracketed by GROUP and END_GROUP."""
    groups: dict[str, dict[str, str]] = {}
    path = [ROOT]
    for match in map(STATEMENT.fullmatch, text.splitlines()):
        key, value = (match["key"], match["text"] if match["text"] is not None else match["word"]) if match else ("", "")
        if key == "GROUP":
            path.append(value)
        elif key == "END_GROUP":
            path = path[:-1] or [ROOT]
        elif key:
            groups.setdefault(path[-1], {})[key] = value
    return groups


def _groups_of_json(text: str, uri: str) -> dict[str, dict[str, str]]:
    try:
        content = json.loads(text)[ROOT]
        return {group: {key: str(value) for key, value in values.items()} for group, values in content.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SceneError(uri, "has metadata that cannot be understood, *_MTL.json", AGAIN) from error
