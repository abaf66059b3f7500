"""What QGIS tells of one feature: the names of its columns, the form, and the map tip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geoanom.layer.qgis_xml import element, options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

ALIASES = {
    "anomaly_id": "Identity",
    "tile_id": "Identity",
    "rank": "Rank",
    "score": "Score (0 to 1)",
    "p_value": "p-value",
    "q_value": "q-value",
    "level": "Level",
    "area_m2": "Area in m²",
    "n_tiles": "Tiles",
    "valid_fraction": "Valid share",
    "scene": "Scene",
    "name": "Scene",
    "datetime": "Acquired",
    "model_id": "Model",
    "recon_error": "Reconstruction error",
    "top_band": "Oddest band",
    "top_band_sigma": "Its deviation (robust sigma)",
    "bands": "Odd bands",
    "voters": "Detectors that agree",
    "nearest_tiles": "Nearest normal tiles",
    "reason": "Reason",
    "lon": "Longitude",
    "lat": "Latitude",
    "digest": "SHA-256",
    "crs": "CRS",
    "coordinates": "Coordinates",
    "tiles_scored": "Tiles scored",
    "tiles_masked": "Tiles masked",
    "warnings": "Warnings",
}
"""Columns as people read them; `score_<member>` is a detector's own."""
TABS = {
    "Anomaly": ("rank", "level", "score", "reason", "bands", "voters", "area_m2"),
    "Place and time": ("scene", "datetime", "lon", "lat"),
    "Figures": ("p_value", "q_value", "n_tiles", "valid_fraction", "recon_error", "top_band", "top_band_sigma"),
    "Origin": ("anomaly_id", "model_id", "nearest_tiles"),
}
"""The form of an anomaly; columns that are nowhere here, the detectors' own scores, stand among the figures."""
LONG = ("reason", "nearest_tiles", "warnings")
"""Columns that need several lines."""
SHOWN = {"anomalies": "'#' || \"rank\" || ' ' || \"level\"", "tiles": '"score"', "scenes": '"name"'}
"""What names a feature in lists."""
TIPS = {
    "anomalies": ("#{rank} {level}", "{reason}", "{scene}"),
    "tiles": ("score {score}",),
    "scenes": ("{name}", "{datetime}", "{warnings}"),
}
"""Lines of the map tips, the first one bold."""


def form(layer: str, fields: Sequence[str] | None) -> list[Element]:
    """Aliases and widgets of the columns, and for anomalies a form with tabs."""
    columns = [name for name in (ALIASES if fields is None else fields) if name not in ("fid", "ogc_fid", "geometry", "geom")]
    parts = [
        element("fieldConfiguration", {}, *(_widget(name) for name in columns)),
        element("aliases", {}, *(element("alias", {"index": n, "field": name, "name": alias(name)}) for n, name in enumerate(columns))),
        element("previewExpression", text=SHOWN[layer]),
    ]
    if layer != "anomalies":
        return parts
    tabs = element("attributeEditorForm", {}, *(_tab(name, members) for name, members in _tabs(columns).items()))
    return [*parts, element("editorlayout", text="tablayout"), tabs]


def alias(name: str) -> str:
    """A column's name for people."""
    return ALIASES.get(name) or (f"Score by {name[6:]}" if name.startswith("score_") else name)


def tip(layer: str) -> Element:
    """The map tip: HTML, in which nothing that a feature says is markup."""
    first, *others = (_line(text) for text in TIPS[layer])
    return element("mapTip", {"enabled": 1}, text="<br>".join([f"<b>{first}</b>", *others]))


def escaped(column: str) -> str:
    """A QGIS expression for the text of a column with HTML's special characters escaped; QGIS has no function for it."""
    told = f"coalesce(to_string(\"{column}\"), '')"
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        told = f"replace({told}, '{character}', '{entity}')"
    return told


def _line(text: str) -> str:
    """A line with ``{column}`` in it as QGIS evaluates it."""
    pieces = text.replace("}", "{").split("{")
    return "".join(f"[% {escaped(piece)} %]" if n % 2 else piece for n, piece in enumerate(pieces))


def _tabs(columns: Sequence[str]) -> dict[str, list[str]]:
    placed = {name for members in TABS.values() for name in members}
    tabs = {tab: [name for name in members if name in columns] for tab, members in TABS.items()}
    tabs["Figures"] += [name for name in columns if name not in placed and (name.startswith("score_") or name not in ALIASES)]
    return tabs


def _tab(name: str, members: Sequence[str]) -> Element:
    shown = {"groupBox": 0, "columnCount": 1, "showLabel": 1, "visibilityExpressionEnabled": 0, "visibilityExpression": ""}
    fields = (element("attributeEditorField", {"name": member, "index": -1, "showLabel": 1}) for member in members)
    return element("attributeEditorContainer", {"name": name, **shown}, *fields)


def _widget(name: str) -> Element:
    """Every column as plain text: a name must not become markup, or a link."""
    config = element("config", {}, options({"IsMultiline": str(name in LONG).lower(), "UseHtml": "false"}))
    return element("field", {"name": name, "configurationFlags": "None"}, element("editWidget", {"type": "TextEdit"}, config))
