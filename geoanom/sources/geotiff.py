"""Rasters that GDAL reads from one local file: GeoTIFF and COG first, and a short list of other formats."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.enums import ColorInterp

from geoanom.errors import SceneError, one_line
from geoanom.raster.scene import Band, Scene
from geoanom.sources.bands import band_numbers, usable_bands
from geoanom.sources.checks import FileState, check_header, check_local_path, check_side_files, sha256_of, survey_blocks
from geoanom.sources.dates import TAGS, acquisition_datetime
from geoanom.sources.handle import UNREADABLE, RasterHandle, Reading, numpy_dtype
from geoanom.sources.jpeg2000 import DRIVER as JPEG2000
from geoanom.sources.jpeg2000 import check_jpeg2000
from geoanom.sources.place import georeference_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from geoanom.config import Config
    from geoanom.raster.scene import Handle
    from geoanom.sources.checks import BlockMap

MAGIC = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\0\0\0\x0cjP": JPEG2000,
    b"\xffO\xffQ": JPEG2000,
    b"EHFA_HEADER_TAG": "HFA",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
}
"""First bytes of the formats that are opened, with the one GDAL driver that may open them."""
SCALED = "scale and offset of the file are applied"
PALETTE_BANDS = ("palette red", "palette green", "palette blue")


@dataclass(frozen=True, kw_only=True)
class RasterFile:
    """A raster file that GDAL may open, wherever it lies."""

    uri: str
    """Named in errors."""
    name: str
    """For layers and messages."""
    path: Path
    driver: str
    size_bytes: int
    digest: Callable[[], str]
    """SHA-256 over what is read, in hex."""
    open_handle: Callable[[Reading, BlockMap], Handle]
    check_unchanged: Callable[[], None]


def open_raster(uri: str, config: Config) -> Scene | None:
    """Open a local raster after checking all that can be checked without decoding a pixel.

    Raises:
        SceneError: it cannot be used as a scene.
        ConfigError: a band is asked for that it does not have.
    """
    path = check_local_path(uri)
    state = FileState.of(path)
    driver = _driver_of(path, uri, config)
    if driver == JPEG2000:
        with path.open("rb") as file:
            check_jpeg2000(file, uri)
    try:
        with rasterio.open(path, driver=driver, sharing=False) as src:
            check_header(src, uri, config.sources)
            return scene_of(src, _local_file(src, path, state, uri), config)
    except UNREADABLE as error:
        raise SceneError(uri, f"is truncated, damaged or no raster ({error})", "copy it again, or name a GeoTIFF") from error


def _local_file(src: rasterio.DatasetReader, path: Path, state: FileState, uri: str) -> RasterFile:
    """The file and what GDAL takes from beside it."""
    beside = [Path(name) for name in src.files if Path(name).is_file() and Path(name) != path]
    if src.driver != "VRT":
        check_side_files(path, beside, uri)
    states = {path: state, **{other: FileState.of(other) for other in beside}}
    return RasterFile(
        uri=uri,
        name=one_line(path.name),
        path=path,
        driver=src.driver,
        size_bytes=state.size,
        digest=lambda: _digest(states),
        open_handle=RasterHandle,
        check_unchanged=lambda: _check_unchanged(states, uri),
    )


def scene_of(src: rasterio.DatasetReader, file: RasterFile, config: Config) -> Scene:
    """The scene of an open file whose header was checked.

    Raises:
        SceneError: it cannot be used as a scene.
        ConfigError: a band is asked for that it does not have.
    """
    uri = file.uri
    reading = _plan_reading(src, file.path, uri, file.driver, config)
    blocks = survey_blocks(src, reading.indexes, file.size_bytes, uri)
    warnings = [*blocks.warnings(uri, config.sources), *_notes(src, reading)]
    georef = georeference_of(src, uri, pixel_space=config.sources.pixel_space)
    if georef.is_pixel_space:
        warnings.append("scored in pixel space: the layer has pixel coordinates and no place on the Earth")
    block_height, block_width = src.block_shapes[reading.indexes[0] - 1]
    return Scene(
        uri=uri,
        name=file.name,
        digest=file.digest(),
        height=src.height,
        width=src.width,
        bands=tuple(_bands(src, reading)),
        band_count=3 if reading.palette is not None else sum(c is not ColorInterp.alpha for c in src.colorinterp),
        block_height=min(block_height, src.height),
        block_width=min(block_width, src.width),
        georef=georef,
        datetime=acquisition_datetime(_tags(src), file.name),
        warnings=tuple(warnings),
        open_handle=lambda: file.open_handle(reading, blocks),
        check_unchanged=file.check_unchanged,
    )


def _driver_of(path: Path, uri: str, config: Config) -> str:
    """The only driver that may open a file, so that its content cannot choose one that follows references."""
    if path.suffix.lower() == ".vrt":
        if "vrt" not in config.sources.allow:
            raise SceneError(uri, "VRT files can refer to any other file", "allow them with --set 'sources.allow=[vrt]'")
        return "VRT"
    with path.open("rb") as file:
        start = file.read(16)
    found = next((driver for magic, driver in MAGIC.items() if start.startswith(magic)), None)
    if found is not None:
        return found
    if any(path.with_name(name).is_file() for name in (f"{path.name}.hdr", f"{path.stem}.hdr", f"{path.stem}.HDR")):
        return "ENVI"
    raise SceneError(uri, "is not a raster of a known format, whatever its name says", "name a GeoTIFF or another raster image")


def _plan_reading(src: rasterio.DatasetReader, path: Path, uri: str, driver: str, config: Config) -> Reading:
    """Which bands are read and how their values become real units."""
    palette = src.colormap(1) if src.colorinterp[0] is ColorInterp.palette else None
    names = PALETTE_BANDS if palette is not None else _descriptions(src)
    chosen = band_numbers(config.bands or (), names, uri)
    indexes, dead = ((1,), ()) if palette is not None else (chosen, ()) if chosen else usable_bands(src)
    dtypes = {src.dtypes[i - 1] for i in indexes}
    return Reading(
        path=path,
        driver=driver,
        indexes=indexes,
        dead=dead,
        scales=tuple(src.scales[i - 1] for i in indexes),
        offsets=tuple(src.offsets[i - 1] for i in indexes),
        dtype=str(np.result_type(*map(numpy_dtype, dtypes))),
        is_mixed=len(dtypes) > 1,
        palette=palette,
        colours_used=(chosen or (1, 2, 3)) if palette is not None else (),
    )


def _bands(src: rasterio.DatasetReader, reading: Reading) -> list[Band]:
    dtype = str(reading.out_dtype)
    if reading.palette is not None:
        return [Band(index=i, name=PALETTE_BANDS[i - 1], dtype=dtype) for i in reading.colours_used]
    names = _descriptions(src)
    return [Band(index=i, name=names[i - 1] or f"band {i}", dtype=dtype) for i in reading.indexes]


def _descriptions(src: rasterio.DatasetReader) -> tuple[str | None, ...]:
    """What the file calls its bands."""
    try:
        return tuple(None if name is None else str(name) for name in src.descriptions)
    except UnicodeDecodeError:  # old writers put names in their own alphabets; a name is not worth a scene
        return (None,) * int(src.count)


def _notes(src: rasterio.DatasetReader, reading: Reading) -> list[str]:
    """What is done to the values that a user may not expect."""
    notes = []
    if reading.dead:
        notes.append(f"{len(reading.dead)} bands hold nothing but nodata and are left out: {', '.join(map(str, reading.dead))}")
    if reading.is_complex:
        notes.append("complex values: their amplitude is used, the phase is not")
    if reading.is_scaled:
        notes.append(SCALED)
    if reading.palette is not None:
        notes.append("palette image: its red, green and blue are used")
    if src.gcps[0]:
        notes.append(f"georeferenced by {len(src.gcps[0])} ground control points")
    return notes


def _tags(src: rasterio.DatasetReader) -> dict[str, str]:
    """The tags that may hold a date; one undecodable tag makes rasterio refuse them all, so each is asked for by itself."""
    try:
        return dict(src.tags())
    except UnicodeDecodeError:
        found = {tag: src.get_tag_item(tag) for tag in TAGS}
        return {tag: str(text) for tag, text in found.items() if text}


def _digest(files: Iterable[Path]) -> str:
    """SHA-256 of the file; where GDAL reads others with it (masks, headers, parts of a VRT), that of all their digests.

    Overviews are left out: they are never read.
    """
    digests = [sha256_of(file) for file in files if file.suffix.lower() != ".ovr"]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _check_unchanged(states: Mapping[Path, FileState], uri: str) -> None:
    for path, state in states.items():
        state.check(path, uri)


def gdal_version() -> str:
    """The GDAL that rasterio carries."""
    return str(rasterio.__gdal_version__)
