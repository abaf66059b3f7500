"""Scenes that SpatioTemporal Asset Catalogs describe: one item, its assets stacked.

Follows the STAC item specification 1.0 and 1.1 (https://github.com/radiantearth/stac-spec) with the extensions raster 1
and 2 (https://github.com/stac-extensions/raster) and eo (https://github.com/stac-extensions/eo).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoanom.errors import SceneError
from geoanom.raster.compose import scaled, stacked
from geoanom.raster.regrid import regridded
from geoanom.sources.bands import band_numbers
from geoanom.sources.dates import acquisition_datetime
from geoanom.sources.geotiff import SCALED, open_raster
from geoanom.sources.remote import is_remote, open_remote
from geoanom.sources.stac_documents import CATALOGS, Document, read_document, root_of, target_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from geoanom.config import Config
    from geoanom.raster.scene import Scene

SUFFIXES = (".json", ".geojson")
RASTER_TYPES = ("image/tiff", "image/geo+tiff")
NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
"""How the raster extension writes what JSON has no number for."""
KEYS = "choose assets with sources.stac.assets"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Bands of one asset."""

    key: str
    href: str
    """As the item writes it."""
    entries: tuple[dict[str, Any], ...]
    """What the item says of each band of the file; may be fewer, or none."""
    indexes: tuple[int, ...] | None = None
    """1-based bands of the file; all when None."""

    def name(self, index: int, count: int) -> str:
        """What a band of the file is called, where `count` bands of it are used."""
        entry = self.entry(index)
        named = entry.get("name") or _common_name(entry)
        return str(named or (self.key if count == 1 else f"{self.key} {index}"))

    def entry(self, index: int) -> dict[str, Any]:
        """What the item says of a band."""
        return self.entries[index - 1] if index <= len(self.entries) else {}


def is_item_uri(uri: str) -> bool:
    """Can this be a STAC item, by its name?"""
    path = uri.partition("?")[0].partition("#")[0].lower()
    if is_remote(uri):
        return path.endswith(SUFFIXES) or ("/items/" in path and "." not in path.rpartition("/")[2])
    return path.endswith(SUFFIXES) and "://" not in uri and Path(uri).is_file()


def open_stac(uri: str, config: Config) -> Scene | None:
    """Open an item as one scene, its assets brought to the finest grid among them; None for what is no item.

    Raises:
        SceneError: the item or an asset of it cannot be used, or may not be reached.
        ConfigError: a band is asked for that it does not have.
    """
    if not is_item_uri(uri):
        return None
    document = read_document(uri, config)
    if document.kind in CATALOGS or document.kind == "FeatureCollection":
        raise SceneError(document.name, "is a STAC catalog of many scenes", "name one item, or take it as an archive")
    if document.kind != "Feature":
        if is_remote(uri):
            raise SceneError(document.name, "is not a STAC item", "name a URL of an item or of a GeoTIFF")
        return None
    return _scene_of(document, config)


def _scene_of(document: Document, config: Config) -> Scene:
    root = root_of(document)
    parts = list(_chosen(document, config))
    scenes = [_open_part(document, part, root, config) for part in parts]
    if config.bands is not None:
        parts, scenes = _with_bands(document, parts, scenes, root, config)
    finest = min(scenes, key=_pixel_side)
    grid = (finest.georef, finest.height, finest.width, config.sources.resampling)
    aligned = [regridded(scene, *grid) for scene in scenes]
    return stacked(aligned, uri=document.name, name=document.title, datetime=datetime_of(document.content))


def _pixel_side(scene: Scene) -> float:
    """In metres, where the scene has a place."""
    return math.sqrt(abs(scene.georef.transform.determinant)) if scene.resolution_m is None else scene.resolution_m


def _chosen(document: Document, config: Config) -> Iterator[Part]:
    """The assets that the settings name, in their order, or those with data."""
    parts = [_part(document, key, asset) for key, asset in _assets(document).items()]
    wanted = config.sources.stac.assets
    if wanted is not None:
        yield from (_find(document, parts, name) for name in wanted)
        return
    found = [part for part in parts if _is_data(_assets(document)[part.key])]
    if not found:
        raise SceneError(document.name, f"has no GeoTIFF asset with the role data; its assets are {_listed(parts)}", KEYS)
    yield from found


def _assets(document: Document) -> dict[str, dict[str, Any]]:
    assets = document.content.get("assets")
    if not isinstance(assets, dict) or not all(isinstance(a, dict) and isinstance(a.get("href"), str) for a in assets.values()):
        raise SceneError(document.name, "has no assets that can be understood", "check that it is a STAC item")
    return assets


def _is_data(asset: dict[str, Any]) -> bool:
    roles, media_type = asset.get("roles"), str(asset.get("type", "")).lower()
    return isinstance(roles, list) and "data" in roles and media_type.startswith(RASTER_TYPES)


def _part(document: Document, key: str, asset: dict[str, Any]) -> Part:
    """An asset with what STAC 1.1 (`bands`) and 1.0 (`raster:bands`, `eo:bands`) say of its bands, in one list."""
    lists = [asset.get(name) or [] for name in ("eo:bands", "raster:bands", "bands")]
    if not all(isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries) for entries in lists):
        raise SceneError(document.name, f"describes the bands of {key!r} in a way that cannot be understood", KEYS)
    whole: dict[str, Any] = {name: asset[name] for name in ("nodata", "raster:scale", "raster:offset") if name in asset}
    count = max(map(len, lists))
    rows = [[entries[i] if i < len(entries) else {} for entries in lists] for i in range(count or bool(whole))]
    return Part(key=key, href=asset["href"], entries=tuple({**whole, **a, **b, **c} for a, b, c in rows))


def _find(document: Document, parts: Sequence[Part], name: str) -> Part:
    """The asset with this key, or else the band with this common name or name."""
    for part in parts:
        if part.key == name:
            return part
    for part in parts:
        for i, entry in enumerate(part.entries, 1):
            if name in (_common_name(entry), entry.get("name")) and _is_raster(_assets(document)[part.key]):
                return replace(part, indexes=(i,))
    raise SceneError(document.name, f"has no asset {name!r}; its assets are {_listed(parts)}", KEYS)


def _is_raster(asset: dict[str, Any]) -> bool:
    return str(asset.get("type", RASTER_TYPES[0])).lower().startswith(RASTER_TYPES) and "overview" not in (asset.get("roles") or ())


def _common_name(entry: dict[str, Any]) -> Any:
    return entry.get("common_name") or entry.get("eo:common_name")


def _listed(parts: Sequence[Part]) -> str:
    return ", ".join(part.key for part in parts[:20]) or "none"


def _open_part(document: Document, part: Part, root: Path, config: Config) -> Scene:
    """The asset's file with its bands' names, in the units that the item states."""
    where = target_of(document, part.href, root)
    plain = config.model_copy(update={"bands": part.indexes, "sources": config.sources.model_copy(update={"qa": None})})
    scene = open_remote(where, plain) or open_raster(where, plain)
    if scene is None:  # pragma: no cover - both refuse by an error
        raise SceneError(document.name, f"has an asset {part.key!r} that is no raster", KEYS)
    named = tuple(replace(band, name=part.name(band.index, len(scene.bands))) for band in scene.bands)
    return _in_real_units(document, part, replace(scene, bands=named))


def _in_real_units(document: Document, part: Part, scene: Scene) -> Scene:
    """Scaled as the item says, unless the file has said so itself."""
    entries = [part.entry(band.index) for band in scene.bands]
    scales = [_number(document, entry, "scale", 1.0) for entry in entries]
    offsets = [_number(document, entry, "offset", 0.0) for entry in entries]
    nodata = [_nodata(document, entry) for entry in entries]
    if SCALED in scene.warnings or (set(scales) == {1.0} and set(offsets) == {0.0} and set(nodata) == {None}):
        return scene
    made = scaled(scene, scales, offsets, nodata)
    note = f"scale and offset of the STAC item are applied to {part.key}"
    return made if set(scales) == {1.0} and set(offsets) == {0.0} else replace(made, warnings=(*made.warnings, note))


def _number(document: Document, entry: dict[str, Any], name: str, default: float) -> float:
    value = entry.get(name, entry.get(f"raster:{name}"))
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or (name == "scale" and value == 0):
        raise SceneError(document.name, f"has a {name} that is no number ({value!r})", "mend the item")
    return float(value)


def _nodata(document: Document, entry: dict[str, Any]) -> float | None:
    value = entry.get("nodata")
    if isinstance(value, str) and value.lower() in NUMBERS:
        return None  # what is not finite is never valid
    return None if value is None else _number(document, {"nodata": value}, "nodata", 0.0)


def _with_bands(
    document: Document, parts: Sequence[Part], scenes: Sequence[Scene], root: Path, config: Config
) -> tuple[list[Part], list[Scene]]:
    """The bands that the settings choose among all of the assets', each asset opened for those of it that are read."""
    table = [(part, band) for part, scene in zip(parts, scenes, strict=True) for band in scene.bands]
    numbers = band_numbers(config.bands or (), [band.name for _, band in table], document.name)
    picked: list[Part] = []
    for part, band in (table[number - 1] for number in numbers):
        named = replace(part, indexes=(band.index,))
        if picked and picked[-1].key == part.key:
            picked[-1] = replace(part, indexes=(*(picked[-1].indexes or ()), band.index))
        else:
            picked.append(named)
    return picked, [_open_part(document, part, root, config) for part in picked]


def datetime_of(item: dict[str, Any]) -> str | None:
    """When an item was taken, or begun, in ISO 8601; a range of more than a year says nothing."""
    stated = item.get("properties")
    moment = (stated.get("datetime") or _start_of(stated)) if isinstance(stated, dict) else None
    return acquisition_datetime({"ACQUISITION_DATETIME": str(moment)}, "") if moment else None


def _start_of(stated: dict[str, Any]) -> Any:
    start, end = (acquisition_datetime({"ACQUISITION_DATETIME": str(stated.get(name))}, "") for name in ("start_datetime", "end_datetime"))
    if start and end and int(end[:4]) - int(start[:4]) > 1:
        return None
    return stated.get("start_datetime")


def asset_targets(uri: str, config: Config) -> list[str]:
    """The paths and URLs of all rasters that an item names, whether they are used or not.

    Raises:
        SceneError: it is no item, or names what it may not.
    """
    document = read_document(uri, config)
    root = root_of(document)
    return [target_of(document, asset["href"], root) for asset in _assets(document).values() if _is_raster(asset)]
