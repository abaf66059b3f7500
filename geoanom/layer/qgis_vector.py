"""How the vector layers look in QGIS: outlines by level with their ranks, faint tiles, thin edges of scenes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geoanom.layer.anomaly import LEVELS
from geoanom.layer.qgis_form import form, tip
from geoanom.layer.qgis_xml import VERSION, document, element, options, rgba

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

COLOURS = {"high": "#e8112d", "medium": "#ffb000", "low": "#00bcd4"}
"""Level to outline; told apart also by those who see no red."""
RANGES = {level: (least, upper) for (least, level), upper in zip(LEVELS, (1.0, *(least for least, _ in LEVELS)), strict=False)}
"""Level to its least and largest score."""
WIDTH_MM = 0.6
FILL = 40
"""Opacity inside an outline, of 255."""
EDGE = "#ffffff"
"""Edge of a scene, on a dark casing."""
CASING = "#14141e"
"""Around light lines and letters, so that they show on any ground."""
FAINT = {"high": 90, "medium": 60, "low": 8}
"""Opacity of a tile's fill, of 255."""


def style(layer: str, fields: Sequence[str] | None = None) -> list[Element]:
    """Renderer, labels, form and map tip of the layer ``anomalies``, ``tiles`` or ``scenes``.

    Args:
        layer: what the layer holds.
        fields: its columns, where they are known; they tell what the form shows.
    """
    parts = {"anomalies": [_by_level(), _ranks()], "tiles": [_by_score()], "scenes": [_edges()]}[layer]
    return [*parts, element("blendMode", text="0"), *form(layer, fields), tip(layer)]


def qml(layer: str, fields: Sequence[str] | None = None) -> str:
    """The style of a layer as QGIS keeps it beside a file or in a GeoPackage."""
    attributes = {
        "version": VERSION,
        "styleCategories": "Symbology|Labeling|Fields|Forms|MapTips",
        "labelsEnabled": int(layer == "anomalies"),
    }
    return document(element("qgis", attributes, *style(layer, fields)))


def _by_level() -> Element:
    categories = [element("category", {"value": level, "label": level, "symbol": n, "render": "true"}) for n, level in enumerate(COLOURS)]
    symbols = [_symbol(n, _line(CASING, 2 * WIDTH_MM, 110), _area(colour, FILL, WIDTH_MM)) for n, colour in enumerate(COLOURS.values())]
    return _renderer("categorizedSymbol", {"attr": "level"}, element("categories", {}, *categories), symbols)


def _by_score() -> Element:
    ranges = [
        element("range", {"lower": lower, "upper": upper, "symbol": n, "label": f"{lower:g} to {upper:g}", "render": "true"})
        for n, (lower, upper) in enumerate(RANGES.values())
    ]
    symbols = [_symbol(n, _area(COLOURS[level], FAINT[level], 0.1, 70)) for n, level in enumerate(RANGES)]
    return _renderer("graduatedSymbol", {"attr": "score", "graduatedMethod": "GraduatedColor"}, element("ranges", {}, *ranges), symbols)


def _edges() -> Element:
    return _renderer("singleSymbol", {}, None, [_symbol(0, _line(CASING, 0.5, 160), _area(EDGE, 0, 0.2))])


def _renderer(kind: str, attributes: dict[str, str], classes: Element | None, symbols: list[Element]) -> Element:
    children = [*([] if classes is None else [classes]), element("symbols", {}, *symbols)]
    return element("renderer-v2", {"type": kind, "symbollevels": 0, "enableorderby": 0, "forceraster": 0, **attributes}, *children)


def _symbol(name: int, *layers: Element) -> Element:
    return element("symbol", {"type": "fill", "name": name, "alpha": 1, "clip_to_extent": 1, "force_rhr": 0}, *layers)


def _area(colour: str, fill_alpha: int, width_mm: float, line_alpha: int = 255) -> Element:
    told = {
        "color": rgba(colour, fill_alpha),
        "style": "solid" if fill_alpha else "no",
        "outline_color": rgba(colour, line_alpha),
        "outline_style": "solid",
        "outline_width": width_mm,
        "outline_width_unit": "MM",
        "joinstyle": "miter",
    }
    return element("layer", {"class": "SimpleFill", "enabled": 1, "locked": 0, "pass": 0}, options(told))


def _line(colour: str, width_mm: float, alpha: int) -> Element:
    told = {
        "line_color": rgba(colour, alpha),
        "line_style": "solid",
        "line_width": width_mm,
        "line_width_unit": "MM",
        "joinstyle": "miter",
        "capstyle": "square",
    }
    return element("layer", {"class": "SimpleLine", "enabled": 1, "locked": 0, "pass": 0}, options(told))


def _ranks() -> Element:
    """Ranks beside the outlines, never inside, where they would hide what was found."""
    letters = {
        "fieldName": "rank",
        "isExpression": 0,
        "fontSize": 10,
        "fontSizeUnit": "Point",
        "fontWeight": 75,
        "textColor": rgba(EDGE),
        "textOpacity": 1,
        "allowHtml": 0,
    }
    halo = element(
        "text-buffer", {"bufferDraw": 1, "bufferSize": 0.8, "bufferSizeUnits": "MM", "bufferColor": rgba(CASING), "bufferOpacity": 0.8}
    )
    outside = {"placement": 8, "polygonPlacementFlags": 2, "dist": 0.5, "distUnits": "MM", "priority": 8}
    settings = [
        element("text-style", letters, halo),
        element("placement", outside),
        element(
            "rendering", {"drawLabels": 1, "obstacle": 0, "displayAll": 1, "limitNumLabels": 1, "maxNumLabels": 500, "scaleVisibility": 0}
        ),
    ]
    return element("labeling", {"type": "simple"}, element("settings", {"calloutType": "simple"}, *settings))
