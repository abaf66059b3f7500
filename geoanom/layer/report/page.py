"""The page: one HTML file without a link to anything, in which no value of the layer can run.

Verdicts leave the page as a file of labels and come into another reader's page of the same layer by it. As JSON, which is the contract
for everything else that reads labels, it is one object in UTF-8::

    {"geoanom_labels": 1, "model_id": "fd1f9ce12780",
     "labels": [{"anomaly_id": "...", "verdict": "confirmed", "lon": -75.6, "lat": 37.6, "scene": "a.tif"}]}

``geoanom_labels`` is the version of the format and ``model_id`` the layer's, or null where the layer does not tell it. A label has the
``anomaly_id`` of the layer's feature and the ``verdict`` ``confirmed`` or ``dismissed`` (``open``, which the page does not write, takes a
verdict back); ``lon``, ``lat`` (degrees, WGS 84) and ``scene`` are for people and may be null. Of several labels of one anomaly the last
one holds. A reader leaves out names that it does not know, and anomalies that it does not know, which it counts; it refuses a file of
another version, of another model, or without a known anomaly. As CSV (RFC 4180, UTF-8, CRLF) the same five columns stand under their
names, without version and model, and a text that a spreadsheet would take for a formula begins with ``'``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from geoanom.config import Config
from geoanom.errors import ConfigError, OutputError
from geoanom.layer.atomic import atomic_file
from geoanom.layer.quicklook import NO_DATA
from geoanom.layer.report.content import content_of
from geoanom.layer.styles import COLOURS

if TYPE_CHECKING:
    from pathlib import Path

    from geoanom.layer.features import Features
    from geoanom.raster.scene import Scene

LIMIT = 200
"""Anomalies on a page unless more are asked for."""
SCRIPTS = ("elements", "map", "list", "detail", "labels", "report")
"""Parts of the page's script, in their order."""
UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
"""Characters that could end the element that JSON stands in."""


def write_report(
    features: Features,
    path: Path,
    *,
    scene: Scene | None = None,
    heatmap: Path | None = None,
    limit: int = LIMIT,
    config: Config | None = None,
) -> int:
    """Write the page of a layer; returns the number of anomalies on it.

    Args:
        features: the layer.
        path: of the page.
        scene: gives the pictures; only its anomalies are then shown.
        heatmap: that the same run wrote for the scene.
        limit: anomalies shown at most, those with the highest scores.
        config: how the scene is read.

    Raises:
        ConfigError: a heatmap without its scene.
        InputError: scene or heatmap do not belong to the layer.
        OutputError: it could not be written.
    """
    if heatmap is not None and scene is None:
        raise ConfigError(heatmap, "needs the scene that it belongs to", "name it, too (--scene)")
    content = content_of(features, limit=limit, scene=scene, heatmap=heatmap, config=config or Config())
    text = page_of(content)
    with atomic_file(path) as temporary:
        temporary.write_text(text, "utf-8", newline="\n")
        if temporary.read_text("utf-8") != text:
            raise OutputError(path, "does not read back after writing", "check the disk")
    return len(content["anomalies"])


def page_of(content: dict[str, Any]) -> str:
    """The page's text; equal content gives an equal page."""
    style, script = _colours() + _static("report.css"), "".join(_static(f"{name}.js") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    data = _escaped(content | {"digest": hashlib.sha256(_escaped(content).encode()).hexdigest()[:16]})
    parts = {"policy": _policy(style, script), "style": style, "data": data, "script": script}
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], _static("report.html"))


def _policy(style: str, script: str) -> str:
    """Nothing but this style, this script and pictures in the page itself (Content Security Policy, level 3)."""
    rules = {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": _source(style),
        "script-src": _source(script),
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _colours() -> str:
    colours = {**COLOURS, "ground": "#" + "".join(f"{part:02x}" for part in NO_DATA)}
    return ":root{" + "".join(f"--{name}:{colour};" for name, colour in colours.items()) + "}\n"


def _static(name: str) -> str:
    return (files("geoanom.layer.report") / "static" / name).read_text("utf-8")


def _escaped(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return "".join(UNSAFE.get(character, character) for character in text)
