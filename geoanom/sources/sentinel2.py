"""Sentinel-2 products, levels 1C and 2A, as SAFE folders or zips of them.

Names, elements and values follow the Sentinel-2 Products Specification Document (ESA, S2-PDGS-TAS-DI-PSD, issue 15):
reflectance is ``(DN + offset) / quantification value``, with offsets since processing baseline 04.00; DN 0 is no data.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from geoanom.errors import SceneError
from geoanom.raster.compose import masked_by, scaled, stacked
from geoanom.raster.regrid import on_finest_grid, regridded
from geoanom.sources.bands import band_numbers
from geoanom.sources.dates import acquisition_datetime
from geoanom.sources.product import AGAIN, Folder, number_of, xml_of
from geoanom.sources.zipped import Zipped, opened_zip

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree.ElementTree import Element

    from geoanom.config import Config
    from geoanom.raster.scene import Scene
    from geoanom.sources.product import Product

METADATA = {"MTD_MSIL2A.xml": "BOA", "MTD_MSIL1C.xml": "RADIO"}
"""The metadata file of each level, with the first word of its offsets' element."""
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""In the order of ``band_id``."""
MANIFEST = "manifest.safe"
HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA3-256": "sha3_256"}
"""Of manifests: MD5 before baseline 04.00, SHA3-256 since."""
DEFAULT = ("B02", "B03", "B04", "B08")
NAME = re.compile(r"S2[A-D]_MSIL(1C|2A)_.*\.(SAFE|zip)", re.IGNORECASE)
IMAGE = re.compile(r"_(?P<what>B\d[\dA]|SCL)(?:_(?P<metres>\d+)m)?$")
OFFSETS_SINCE, CUSTOM_BASELINES = 4.0, 90.0
"""Baselines from 04.00 have offsets; 99.99 is whatever a user's own processing made."""


def is_safe(path: Path) -> bool:
    """Is this a SAFE folder of Sentinel-2, a zip of one, or the metadata file in one? Told by names alone."""
    try:
        if path.is_dir():
            return bool(NAME.fullmatch(path.name)) or any((path / name).is_file() for name in METADATA)
        if path.suffix.lower() == ".zip":
            return path.is_file() and (bool(NAME.fullmatch(path.name)) or _holds_metadata(path))
        return path.name in METADATA and path.is_file()
    except (OSError, ValueError):
        return False


def _holds_metadata(path: Path) -> bool:
    try:
        with opened_zip(path, str(path)) as archive:
            return any(PurePosixPath(name).name in METADATA for name in archive.namelist())
    except SceneError:
        return False


def open_safe(uri: str, config: Config) -> Scene | None:
    """Open a product: the chosen bands as reflectance on the finest grid among them, what the scene classification rejects masked.

    Raises:
        SceneError: it lacks a file, is damaged or made to do harm.
        ConfigError: a band is asked for that it does not have.
    """
    path = Path(uri)
    if not is_safe(path):
        return None
    product = _product(uri, path)
    metadata = _metadata_of(product)
    numbers = band_numbers([_folded(b) for b in config.bands or DEFAULT], metadata.bands, uri)
    names = [metadata.bands[number - 1] for number in numbers]
    plain = config.model_copy(update={"bands": None})
    parts = [_reflectance(_image(product, name, metadata, plain), name, metadata) for name in names]
    scene = stacked(on_finest_grid(parts, config.sources.resampling), uri=uri, name=product.name, datetime=metadata.datetime)
    bands = tuple(replace(band, index=number, name=name) for band, number, name in zip(scene.bands, numbers, names, strict=True))
    return _without_clouds(replace(scene, bands=bands, band_count=len(metadata.bands)), product, metadata, plain)


def _product(uri: str, path: Path) -> Product:
    if path.suffix.lower() == ".zip" and not path.is_dir():
        return Zipped.at(uri)
    return Folder(uri, path.parent if path.name in METADATA else path)


def _folded(band: int | str) -> int | str:
    """``b2`` and ``B2`` are B02."""
    short = re.fullmatch(r"[bB](\d)", band) if isinstance(band, str) else None
    return f"B0{short[1]}" if short else band


def _image(product: Product, what: str, metadata: _Metadata, config: Config) -> Scene:
    """An image that is what the manifest says: decoders make something up for damaged data."""
    member = metadata.images[what]
    scene = product.raster(member, config)
    kind, expected = metadata.checksums.get(member, ("", ""))
    if expected:
        with product.open(member) as file:
            found = hashlib.file_digest(file, kind).hexdigest()  # type: ignore[arg-type]  # it has what the digest asks for
        if found != expected:
            raise SceneError(scene.uri, f"is damaged: its checksum is not that of {MANIFEST}", AGAIN)
    return scene


def _reflectance(scene: Scene, name: str, metadata: _Metadata) -> Scene:
    unit = 1.0 / metadata.quantification
    return scaled(scene, (unit,), (metadata.offsets.get(name, 0.0) * unit,), (metadata.nodata,))


def _without_clouds(scene: Scene, product: Product, metadata: _Metadata, config: Config) -> Scene:
    rejected = config.sources.scl_reject
    if not rejected or metadata.is_top_of_atmosphere:
        return scene
    if "SCL" not in metadata.images:
        way_out = f"{AGAIN}, or use it unmasked with --set 'sources.scl_reject=[]'"
        raise SceneError(product.uri, "has no scene classification (SCL) in its metadata", way_out)
    classes = _image(product, "SCL", metadata, config)
    return masked_by(scene, regridded(classes, scene.georef, scene.height, scene.width, "nearest"), reject=rejected)


@dataclass(frozen=True, kw_only=True)
class _Metadata:
    """What the metadata file says of a product."""

    is_top_of_atmosphere: bool
    images: Mapping[str, str]
    """By band, or SCL: the image of the best resolution, from the product's root."""
    quantification: float
    offsets: Mapping[str, float]
    """By band; empty before baseline 04.00."""
    nodata: float
    datetime: str | None
    checksums: Mapping[str, tuple[str, str]]
    """By file: the name of the hash and its value in hex."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Those it has images of."""
        return tuple(band for band in BANDS if band in self.images)


def _metadata_of(product: Product) -> _Metadata:
    file = next((name for name in METADATA if name in product.names()), None)
    if file is None:
        raise SceneError(product.uri, f"lacks the metadata file {' or '.join(METADATA)}", AGAIN)
    root, word = xml_of(product, file), METADATA[file]
    quantification = "QUANTIFICATION_VALUE" if word == "RADIO" else "BOA_QUANTIFICATION_VALUE"
    values = {e.findtext("{*}SPECIAL_VALUE_TEXT"): e.findtext("{*}SPECIAL_VALUE_INDEX") for e in root.findall(".//{*}Special_Values")}
    moment = root.findtext(".//{*}DATATAKE_SENSING_START") or root.findtext(".//{*}PRODUCT_START_TIME") or ""
    return _Metadata(
        is_top_of_atmosphere=word == "RADIO",
        images=_images(root, product.uri),
        quantification=number_of(root.findtext(f".//{{*}}{quantification}"), quantification, product.uri, positive=True),
        offsets=_offsets(root, f"{word}_ADD_OFFSET", product.uri),
        nodata=number_of(values.get("NODATA") or "0", "SPECIAL_VALUE_INDEX", product.uri),
        datetime=acquisition_datetime({"ACQUISITION_DATETIME": moment}, product.name),
        checksums=_checksums(product) if MANIFEST in product.names() else {},
    )


def _checksums(product: Product) -> dict[str, tuple[str, str]]:
    """What the manifest says of the files' content, as far as the hashes are known here."""
    found = {}
    for stream in xml_of(product, MANIFEST).findall(".//{*}byteStream"):
        place, checksum = stream.find("{*}fileLocation"), stream.find("{*}checksum")
        if place is not None and checksum is not None:
            kind = HASHES.get(checksum.get("checksumName", "").upper())
            if kind:
                found[place.get("href", "").removeprefix("./")] = (kind, (checksum.text or "").strip().lower())
    return found


def _images(root: Element, uri: str) -> dict[str, str]:
    """The finest image of each band and of the scene classification."""
    paths = [(element.text or "").strip() for element in root.findall(".//{*}IMAGE_FILE")]
    if len({PurePosixPath(path).parts[:2] for path in paths}) > 1:
        raise SceneError(uri, "has several granules, as products had until 2016", "name a product of one granule")
    found: dict[str, tuple[int, str]] = {}
    for path in paths:
        match = IMAGE.search(path)
        if match is not None:
            image = (int(match["metres"] or 0), f"{path}.jp2")
            found[match["what"]] = min(image, found.get(match["what"], image))
    missing = [band for band in DEFAULT if band not in found]
    if missing:
        raise SceneError(uri, f"lists no image of {', '.join(missing)} in its metadata", AGAIN)
    return {what: path for what, (_, path) in found.items()}


def _offsets(root: Element, element: str, uri: str) -> dict[str, float]:
    listed = root.findall(f".//{{*}}{element}")
    baseline = number_of(root.findtext(".//{*}PROCESSING_BASELINE") or "0", "PROCESSING_BASELINE", uri)
    if not listed and OFFSETS_SINCE <= baseline < CUSTOM_BASELINES:
        raise SceneError(uri, f"lacks {element} in its metadata, which its processing baseline {baseline:05.2f} must have", AGAIN)
    offsets = {}
    for offset in listed:
        band = number_of(offset.get("band_id"), f"band_id of {element}", uri)
        if band not in range(len(BANDS)):
            raise SceneError(uri, f"has {element} of an unknown band {band:g} in its metadata", AGAIN)
        offsets[BANDS[int(band)]] = number_of(offset.text, element, uri)
    return offsets
