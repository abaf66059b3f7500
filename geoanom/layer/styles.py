"""How layers look in a GIS: QML for QGIS, SLD for servers, both from the same levels and colours."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from geoanom.layer import qgis_raster, qgis_vector
from geoanom.layer.atomic import atomic_file
from geoanom.layer.qgis_xml import clean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COLOURS = qgis_vector.COLOURS
"""Level to outline."""
RASTERS = (".tif", ".tiff")
"""Suffixes of heatmaps."""
ABOUT = {"anomalies": "levels of anomalies", "tiles": "tiles by score", "scenes": "edges of scenes"}
TABLE = """
CREATE TABLE IF NOT EXISTS layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT, f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256),
  f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT,
  owner TEXT(30), ui TEXT(30), update_time DATETIME DEFAULT '1970-01-01T00:00:00.000Z')
"""


def qml(layer: str = "anomalies", fields: Sequence[str] | None = None) -> str:
    """A QGIS style for the layer ``anomalies`` (an outline for each level), ``tiles`` or ``scenes``; `fields` are its columns."""
    return qgis_vector.qml(layer, fields)


def sld(name: str = "anomalies", layer: str = "anomalies") -> str:
    """A style by the Styled Layer Descriptor 1.0.0 standard (OGC 02-070) for what a layer holds, under a name."""
    rules = {
        "anomalies": "".join(_rule(level, colour, _equal(level), 0.15, 2.0) for level, colour in COLOURS.items()),
        "tiles": "".join(_rule(level, COLOURS[level], _between(*limits), 0.2, 0.3) for level, limits in qgis_vector.RANGES.items()),
        "scenes": _rule("scene", qgis_vector.EDGE, "", 0.0, 1.0),
    }[layer]
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<StyledLayerDescriptor version="1.0.0" xmlns="http://www.opengis.net/sld" '
        f'xmlns:ogc="http://www.opengis.net/ogc"><NamedLayer><Name>{escape(clean(name))}</Name><UserStyle><Title>geoanom</Title>'
        f"<FeatureTypeStyle>{rules}</FeatureTypeStyle></UserStyle></NamedLayer></StyledLayerDescriptor>\n"
    )


def _rule(name: str, colour: str, condition: str, fill_opacity: float, width_px: float) -> str:
    wanted = f"<ogc:Filter>{condition}</ogc:Filter>" if condition else ""
    inside = f"<Fill>{_parameter('fill', colour)}{_parameter('fill-opacity', f'{fill_opacity:g}')}</Fill>" if fill_opacity else ""
    edge = f"<Stroke>{_parameter('stroke', colour)}{_parameter('stroke-width', f'{width_px:g}')}</Stroke>"
    return f"<Rule><Name>{name}</Name>{wanted}<PolygonSymbolizer>{inside}{edge}</PolygonSymbolizer></Rule>"


def _parameter(name: str, value: str) -> str:
    return f'<CssParameter name="{name}">{value}</CssParameter>'


def _equal(level: str) -> str:
    literal = f"<ogc:PropertyName>level</ogc:PropertyName><ogc:Literal>{level}</ogc:Literal>"
    return f"<ogc:PropertyIsEqualTo>{literal}</ogc:PropertyIsEqualTo>"


def _between(lower: float, upper: float) -> str:
    limits = (
        f"<ogc:{end}Boundary><ogc:Literal>{value:g}</ogc:Literal></ogc:{end}Boundary>"
        for end, value in (("Lower", lower), ("Upper", upper))
    )
    return f"<ogc:PropertyIsBetween><ogc:PropertyName>score</ogc:PropertyName>{''.join(limits)}</ogc:PropertyIsBetween>"


def add_style(gpkg: Path, layer: str) -> None:
    """Embed the style in a GeoPackage as the default of its layer ``anomalies``, ``tiles`` or ``scenes``, where QGIS looks for it."""
    with closing(sqlite3.connect(gpkg)) as connection, connection:
        connection.execute(TABLE)
        column = "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?"
        (geometry,) = connection.execute(column, (layer,)).fetchone()  # QGIS takes a style only for the very column
        fields = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (layer,))]
        connection.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML, styleSLD, "
            "useAsDefault, description, owner) VALUES ('', '', ?, ?, 'geoanom', ?, ?, 1, ?, '')",
            (layer, geometry, qml(layer, fields), sld(layer, layer), ABOUT[layer]),
        )
        registered = "INSERT OR IGNORE INTO gpkg_contents (table_name, data_type, identifier, last_change) VALUES (?, 'attributes', ?, ?)"
        connection.execute(registered, ("layer_styles", "layer_styles", "1970-01-01T00:00:00.000Z"))


def write_styles(path: Path) -> None:
    """Write ``.qml`` and ``.sld`` beside a layer or a heatmap, under its name, where QGIS and servers look for them.

    Raises:
        OutputError: they could not be written.
    """
    styles = (qgis_raster.qml(), qgis_raster.sld(clean(path.stem))) if path.suffix.lower() in RASTERS else (qml(), sld(path.stem))
    for suffix, text in zip((".qml", ".sld"), styles, strict=True):
        with atomic_file(path.with_suffix(suffix)) as temporary:
            temporary.write_text(text, "utf-8")
