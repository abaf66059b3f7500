"""What a page shows, as the one JSON value that its script reads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from geoanom.errors import InputError
from geoanom.layer.anomaly import LEVELS
from geoanom.layer.explain import VOTE_SCORE
from geoanom.layer.report.chosen import BINS, choose, number_of
from geoanom.layer.report.frame import free_frame, path_of, scene_frame
from geoanom.layer.report.pictures import heatmap_of
from geoanom.layer.report.views import SceneViews

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from shapely.geometry.base import BaseGeometry

    from geoanom.config import Config
    from geoanom.layer.features import Feature, Features
    from geoanom.layer.report.chosen import Chosen
    from geoanom.layer.report.frame import Frame
    from geoanom.layer.report.pictures import Heatmap
    from geoanom.raster.scene import Scene

LONGEST_TEXT = 400
"""Characters of a property that are shown."""
MOST_PROPERTIES = 80
MOST_SCENES = 100
TOLD = ("name", "datetime", "digest", "tiles_scored", "tiles_masked", "warnings")
"""What is told of a scene, besides its size and its CRS."""
LONGEST_NAME = 40
"""Characters of the name of a CRS."""
NEAR = re.compile(r"(?P<scene>.+?):(?P<row>\d{1,7}):(?P<col>\d{1,7})@(?P<distance>[-+.\deE]+)(?:; |$)")


def content_of(features: Features, *, limit: int, scene: Scene | None, heatmap: Path | None, config: Config) -> dict[str, Any]:
    """Everything that a page shows.

    Args:
        features: the layer.
        limit: anomalies shown at most.
        scene: gives pictures; only its anomalies are then shown.
        heatmap: of the scene.
        config: how the scene is read.

    Raises:
        InputError: the layer knows nothing of the scene, or the heatmap is of another one.
    """
    name = None if scene is None else name_in(features, scene)
    chosen = choose(features, limit, name)
    size, stride = (_whole(features.provenance.get(key)) for key in ("tile_size", "stride"))
    frame = free_frame(features, [f.geometry for f in chosen.features]) if scene is None else scene_frame(scene)
    placed = [frame.place(feature.geometry) for feature in chosen.features]
    anomalies = [_anomaly(feature, outline) for feature, outline in zip(chosen.features, placed, strict=True)]
    heat = None if scene is None or heatmap is None else heatmap_of(heatmap, scene, stride)
    pictures = {} if scene is None else _pictured(anomalies, placed, SceneViews(scene, config, size, stride), name or "")
    return {
        "scene": name,
        "frame": _frame(frame),
        "heatmap": None if heat is None else {"image": heat.picture, "width": heat.width, "height": heat.height},
        **pictures,
        "anomalies": anomalies,
        "total": chosen.n_total,
        "histogram": _histogram(chosen, heat),
        "levels": [{"name": level, "least": least} for least, level in LEVELS],
        "vote": VOTE_SCORE,
        "provenance": _provenance(features.provenance),
        "notes": _notes(features, chosen, scene, name, size),
    }


def name_in(features: Features, scene: Scene) -> str:
    """What a layer calls a scene: by its content, else by its name.

    Raises:
        InputError: the layer does not know it.
    """
    entries = _entries(features.provenance)
    for key, value in (("digest", scene.digest), ("name", scene.name)):
        for entry in entries:
            if entry.get(key) == value:
                return str(entry.get("name"))
    if not entries and any(feature.properties.get("scene") == scene.name for feature in features.stream()):
        return scene.name
    known = ", ".join(str(entry.get("name")) for entry in entries[:3]) or "none by this name"
    raise InputError(scene.uri, "is no scene of this layer", f"the layer has {known}")


def _anomaly(feature: Feature, outline: BaseGeometry | None) -> dict[str, Any]:
    properties = {str(name)[:80]: _shown(value) for name, value in list(feature.properties.items())[:MOST_PROPERTIES]}
    return {
        "id": str(feature.properties.get("anomaly_id") or "")[:LONGEST_TEXT],
        "properties": properties,
        "near": _near(feature.properties.get("nearest_tiles")),
        "path": None if outline is None else path_of(outline),
        "bounds": None if outline is None else [round(float(value), 1) for value in outline.bounds],
    }


def _near(text: Any) -> list[dict[str, Any]]:
    found = NEAR.finditer(text) if isinstance(text, str) else ()
    return [{"scene": m["scene"], "row": int(m["row"]), "col": int(m["col"]), "distance": _distance(m["distance"])} for m in found]


def _distance(text: str) -> float | None:
    try:
        return number_of(float(text))
    except ValueError:
        return None


def _pictured(anomalies: list[dict[str, Any]], placed: list[BaseGeometry | None], views: SceneViews, name: str) -> dict[str, Any]:
    """Add the scene's pixels to anomalies; returns the pictures that they share."""
    watched = [None if outline is None else views.watch(outline) for outline in placed]
    for anomaly in anomalies:
        for tile in anomaly["near"]:
            tile["tile"] = views.watch_tile(tile["row"], tile["col"]) if tile["scene"] == name else None
    views.fill()
    for anomaly, place in zip(anomalies, watched, strict=True):
        if place is not None:
            anomaly.update(views.shown(place))
    return {"quicklook": views.quicklook(), "tiles": views.tiles(), "bands": views.bands()}


def _frame(frame: Frame) -> dict[str, Any]:
    return {"bounds": frame.bounds, "metres": frame.metres_per_unit, "north": frame.north_degrees}


def _histogram(chosen: Chosen, heat: Heatmap | None) -> dict[str, Any]:
    tiles = [] if heat is None else np.histogram(np.clip(heat.scores, 0, 1), BINS, (0.0, 1.0))[0].tolist()
    return {"anomalies": chosen.counts.tolist(), "tiles": tiles, "threshold": chosen.least_score}


def _provenance(told: Mapping[str, Any]) -> dict[str, Any]:
    entries = _entries(told)
    facts = {str(name)[:80]: _shown(value) for name, value in told.items() if name not in ("scenes", "threshold")}
    rule = told.get("threshold")
    threshold = {str(name): _shown(value) for name, value in rule.items()} if isinstance(rule, dict) else {}
    scenes = [_scene_told(entry) for entry in entries[:MOST_SCENES]]
    return {"facts": facts, "threshold": threshold, "scenes": scenes, "n_scenes": len(entries)}


def _scene_told(entry: Mapping[str, Any]) -> dict[str, Any]:
    shape, crs = entry.get("shape"), entry.get("crs")
    size = " \N{MULTIPLICATION SIGN} ".join(map(str, reversed(shape))) + " pixels" if isinstance(shape, list) and len(shape) == 2 else None
    named = crs if isinstance(crs, str) and len(crs) <= LONGEST_NAME else None  # WKT is nothing to read
    return {name: _shown(entry.get(name)) for name in TOLD} | {"size": _shown(size), "crs": named}


def _notes(features: Features, chosen: Chosen, scene: Scene | None, name: str | None, size: int | None) -> list[str]:
    """What a reader must know to trust the page."""
    entries = _entries(features.provenance)
    changed = scene is not None and any(entry.get("name") == name and entry.get("digest") != scene.digest for entry in entries)
    said = {
        f"The {len(chosen.features)} anomalies with the highest scores of {chosen.n_total} are shown.": len(chosen.features)
        < chosen.n_total,
        f"{chosen.n_elsewhere} anomalies lie in other scenes of this layer and are not shown.": chosen.n_elsewhere > 0,
        "The scene's content is not what was scored: it was changed, or read with other bands.": changed,
        "The layer does not tell the size of its tiles, so that the nearest normal tiles are named and not pictured.": scene is not None
        and size is None,
    }
    return [note for note, holds in said.items() if holds]


def _entries(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    scenes = told.get("scenes")
    return [entry for entry in scenes if isinstance(entry, dict)] if isinstance(scenes, list) else []


def _shown(value: Any) -> Any:
    """A finite number, a truth value, None or a text of bounded length."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float | np.number):
        return value if isinstance(value, int) and abs(value) < 2**53 else number_of(value)
    if isinstance(value, list | tuple):
        value = "; ".join(map(str, value))
    text = str(value)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 65_536 else None
