"""STAC 1.1.0: a collection with one item per scene of a layer, all links relative, so that the folder can be moved and served.

Follows https://github.com/radiantearth/stac-spec with the extensions projection 2.0.0 and processing 1.2.0
(https://github.com/stac-extensions). Fields with the prefix ``geoanom:`` are the layer's own.
The projection fields are those of the scene's grid; vectors have no grid, tell their CRS themselves, and so have none of the fields.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from shapely.errors import ShapelyError

from geoanom.errors import InputError, OutputError
from geoanom.layer.atomic import atomic_folder
from geoanom.layer.stac_assets import assets_of
from geoanom.layer.stac_place import bbox_of, grid_of, interval_of, place_of, time_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from geoanom.layer.features import Features
    from geoanom.layer.stac_assets import Asset

VERSION = "1.1.0"
EXTENSIONS = [
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
]
ITEMS = "items"
COLLECTION = "collection.json"
LONGEST_NAME = 200
"""Characters; file systems take 255 bytes, and suffixes need some."""
LINEAGE = "Tiles of the scene were compared with normal tiles by several detectors; neighbouring tiles that stand out are one anomaly."
DESCRIPTION = "Places that do not belong, as geoanom found them: one item per scene, with its anomalies as assets."
LICENSE = "other"
"""The scenes', which are not told here; without a link to a text it grants nobody anything."""


@dataclass(frozen=True, kw_only=True)
class StacAssets:
    """What the items point to; all local files must exist."""

    layers: tuple[Path, ...]
    """The same layer in one or more formats."""
    scene: str | None = None
    """Path or URL of the scene, for a layer of one."""
    heatmap: Path | None = None
    """Of the scene, for a layer of one."""
    model: Path | None = None
    """The bundle's folder or its model.json."""
    report: Path | None = None
    """An HTML page."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What a layer holds of one scene."""

    anomalies: int = 0
    max_score: float | None = None

    def with_one(self, score: float | None) -> Tally:
        """One anomaly more."""
        known = [value for value in (self.max_score, score) if value is not None]
        return Tally(anomalies=self.anomalies + 1, max_score=max(known, default=None))


def write_stac(features: Features, folder: Path, *, assets: StacAssets, tallies: Mapping[str, Tally] | None = None) -> int:
    """Write ``collection.json`` and ``items/NAME.json`` for each scene; an existing folder is replaced.

    Args:
        features: a layer that tells its scenes; gone through once where its tallies are not given.
        folder: will hold nothing else.
        assets: what the items point to, by addresses relative to them.
        tallies: what `check_stac` counted.

    Returns:
        The number of items.

    Raises:
        InputError: the layer does not tell its scenes, or an asset is not there or not of this layer.
        OutputError: it could not be written, or does not read back.
    """
    source = assets.layers[0] if assets.layers else folder
    tallies = check_stac(features, folder, assets=assets) if tallies is None else tallies
    entries, grids = _scenes(features, source)
    shared = assets_of(assets, folder / ITEMS, features.provenance.get("model_id"))
    name = _collection_id(features.provenance, entries)
    items = dict(zip(_names(entries), entries, strict=True))
    with atomic_folder(folder) as temporary:
        (temporary / ITEMS).mkdir()
        for item, entry, grid in zip(items, entries, grids, strict=True):
            about = {**_own(features.provenance, entry, tallies.get(entry["name"])), **grid}
            _write(_item(item, name, entry, about, shared), temporary / ITEMS / f"{item}.json", folder)
        _write(_collection(name, features, items, grids, shared), temporary / COLLECTION, folder)
    return len(items)


def check_stac(features: Features, folder: Path, *, assets: StacAssets) -> dict[str, Tally]:
    """Refuse what `write_stac` could not write, before the layers that it points to are written.

    Returns:
        What the layer holds of each scene, by name; scenes that share a name are left out.

    Raises:
        InputError: the layer does not tell its scenes, or has several where an asset shows one, or an asset but the layers is not there
            or not of this layer.
        OutputError: the folder holds something else.
    """
    source = assets.layers[0] if assets.layers else folder
    entries, _ = _scenes(features, source)
    _check_single(assets, entries)
    _check_replaceable(folder)
    assets_of(replace(assets, layers=()), folder / ITEMS, features.provenance.get("model_id"))
    return _tallied(features, entries, source)


def _scenes(features: Features, source: Path) -> tuple[list[Mapping[str, Any]], list[dict[str, Any]]]:
    """What the layer tells of its scenes, and their grids."""
    entries = list(features.provenance.get("scenes", ()))
    if not entries:
        raise InputError(source, "does not tell its scenes", "name a layer in GeoJSON, GeoPackage or GeoParquet of geoanom detect or score")
    if not all(entry.keys() >= {"name", "shape", "footprint"} for entry in entries):
        raise InputError(source, "does not tell where its scenes lie, as an older geoanom made it", "score the scenes again")
    try:
        for entry in entries:
            json.dumps([place_of(entry), time_of(entry), _own(features.provenance, entry, None)])
        return entries, [grid_of(entry["shape"], entry.get("crs"), entry.get("transform")) for entry in entries]
    except (LookupError, TypeError, AttributeError, ValueError, ShapelyError) as error:
        raise InputError(source, f"tells its scenes in a way that cannot be understood ({error})", "score the scenes again") from error


def _check_single(assets: StacAssets, entries: Sequence[Mapping[str, Any]]) -> None:
    for path in (assets.scene, assets.heatmap):
        if path is not None and len(entries) > 1:
            raise InputError(
                path, f"is of one scene, and the layer of {len(entries)}", "leave it out, or write the STAC of each scene's layer"
            )


def _check_replaceable(folder: Path) -> None:
    """An older collection is replaced as a whole; what else lies in the folder would be lost with it."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(folder, "is a file, and a STAC collection is a folder", "choose another name")
    if folder.exists():
        others = {path.name for path in folder.iterdir()} - {ITEMS, COLLECTION}
        if others or not all(path.suffix == ".json" for path in (folder / ITEMS).glob("*")):
            raise OutputError(folder, f"holds other files than a STAC collection ({min(others, default=ITEMS)})", "choose another name")


def _tallied(features: Features, entries: Sequence[Mapping[str, Any]], source: Path) -> dict[str, Tally]:
    """Count the anomalies of each scene; scenes that share a name are left out, since the anomalies do not tell which is theirs."""
    counted = Counter(entry["name"] for entry in entries)
    tallies = {name: Tally() for name in counted}
    for feature in features.stream():
        name = feature.properties.get("scene")
        if name not in tallies:
            raise InputError(source, f"has an anomaly of the scene {name!r}, which it does not tell", "export it again")
        tallies[name] = tallies[name].with_one(feature.properties.get("score"))
    return {name: tally for name, tally in tallies.items() if counted[name] == 1}


def _names(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the items' files, which are their ids: those of the scenes without suffix, with a digest where two would share one."""
    bare = [_safe(os.path.splitext(entry["name"])[0]) for entry in entries]  # noqa: PTH122 - names need not be paths
    counted = Counter(name.casefold() for name in bare)
    return [name if counted[name.casefold()] == 1 else f"{name}-{_short_digest([i, entries[i]['name']])}" for i, name in enumerate(bare)]


def _safe(name: str) -> str:
    """A file name that needs no quoting in any address and leads nowhere else; what is cut off is told by a digest."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts)).lstrip(".-") or "scene"
    return plain if len(plain) <= LONGEST_NAME else f"{plain[:LONGEST_NAME]}-{_short_digest(name)}"


def _short_digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]


def _collection_id(provenance: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> str:
    """Tells layers of other models, settings or scenes apart."""
    made_by = [provenance.get(key) for key in ("model_id", "config_digest", "threshold")]
    return f"geoanom-{_short_digest([made_by, [(entry['name'], entry.get('digest')) for entry in entries]])}"


def _item(name: str, collection: str, entry: Mapping[str, Any], about: Mapping[str, Any], shared: Mapping[str, Asset]) -> dict[str, Any]:
    place = place_of(entry)
    return {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": EXTENSIONS,
        "id": name,
        **place,
        "properties": {"title": entry["name"], **time_of(entry), **about},
        "links": [{"rel": rel, "href": f"../{COLLECTION}", "type": "application/json"} for rel in ("root", "parent", "collection")],
        "assets": dict(shared),
        "collection": collection,
    }


def _own(provenance: Mapping[str, Any], entry: Mapping[str, Any], tally: Tally | None) -> dict[str, Any]:
    """What made the layer, and what it holds of a scene."""
    threshold = {f"threshold_{key}": value for key, value in dict(provenance.get("threshold") or {}).items()}
    counts = {} if tally is None else {"anomalies": tally.anomalies, "max_score": tally.max_score}
    told = {
        **counts,
        **{key: entry.get(key) for key in ("tiles_scored", "tiles_masked")},
        **{key: provenance.get(key) for key in ("model_id", "config_digest")},
        **threshold,
        "scene_digest": entry.get("digest"),
        "warnings": list(entry.get("warnings") or []) or None,
    }
    return {**_processing(provenance), **{f"geoanom:{key}": value for key, value in told.items() if value is not None}}


def _processing(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The processing extension's fields; which level a product has is said of each asset, as the scene's own is another."""
    return {"processing:software": {"geoanom": str(provenance.get("version", "unknown"))}, "processing:lineage": LINEAGE}


def _collection(
    name: str,
    features: Features,
    items: Mapping[str, Mapping[str, Any]],
    grids: Sequence[Mapping[str, Any]],
    shared: Mapping[str, Asset],
) -> dict[str, Any]:
    entries = list(items.values())
    links = [{"rel": "item", "href": f"./{ITEMS}/{item}.json", "type": "application/geo+json"} for item in items]
    return {
        "type": "Collection",
        "stac_version": VERSION,
        "stac_extensions": EXTENSIONS,
        "id": name,
        "title": "Anomalies",
        "description": DESCRIPTION,
        "license": LICENSE,
        "extent": {"spatial": {"bbox": [bbox_of(entries)]}, "temporal": {"interval": [interval_of(entries)]}},
        "summaries": _summaries(features.provenance, grids),
        "item_assets": {key: {k: asset[k] for k in ("type", "title", "roles") if k in asset} for key, asset in shared.items()},
        "links": [{"rel": "root", "href": f"./{COLLECTION}", "type": "application/json"}, *links],
    }


def _summaries(provenance: Mapping[str, Any], grids: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    codes = sorted({grid["proj:code"] for grid in grids if grid["proj:code"] is not None})
    told = {f"geoanom:{key}": [provenance[key]] for key in ("model_id", "config_digest") if provenance.get(key) is not None}
    return {**({"proj:code": codes} if codes else {}), **{key: [value] for key, value in _processing(provenance).items()}, **told}


def _write(tree: Mapping[str, Any], path: Path, folder: Path) -> None:
    """Write a document that is new, bring it to the disk, and read it back."""
    content = (json.dumps(tree, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode("utf-8", "replace")
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if path.read_bytes() != content:
        raise OutputError(folder, f"does not read back {path.name}", "check the disk")
