"""How anomalies look in a GIS: QML for QGIS, SLD for servers, both from the same levels and colours."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from geoanom.layer.atomic import atomic_file

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = {"high": "#e8112d", "medium": "#ffb000", "low": "#00bcd4"}
"""Level to outline; told apart also by those who see no red."""
WIDTH_MM = 0.6
TABLE = """
CREATE TABLE IF NOT EXISTS layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT, f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256),
  f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT,
  owner TEXT(30), ui TEXT(30), update_time DATETIME DEFAULT '1970-01-01T00:00:00.000Z')
"""


def qml() -> str:
    """A QGIS style with an outline for each level."""
    categories = "".join(f'<category value="{level}" label="{level}" symbol="{n}" render="true"/>' for n, level in enumerate(COLOURS))
    symbols = "".join(_qml_symbol(n, colour) for n, colour in enumerate(COLOURS.values()))
    return (
        '<!DOCTYPE qgis PUBLIC "http://mrcc.com/qgis.dtd" "SYSTEM">\n<qgis version="3.28" styleCategories="Symbology|MapTips">'
        f'<renderer-v2 type="categorizedSymbol" attr="level" symbollevels="0"><categories>{categories}</categories>'
        f"<symbols>{symbols}</symbols></renderer-v2>"
        f"<mapTip>{escape('<b>#[% rank %] [% level %]</b><br>[% reason %]')}</mapTip></qgis>\n"
    )


def _qml_symbol(n: int, colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    options = {
        "color": f"{red},{green},{blue},40",
        "style": "solid",
        "outline_color": f"{red},{green},{blue},255",
        "outline_style": "solid",
        "outline_width": f"{WIDTH_MM}",
        "outline_width_unit": "MM",
        "joinstyle": "miter",
    }
    told = "".join(f'<Option type="QString" name="{name}" value="{value}"/>' for name, value in options.items())
    fill = f'<layer class="SimpleFill" enabled="1" pass="0"><Option type="Map">{told}</Option></layer>'
    return f'<symbol type="fill" name="{n}" alpha="1">{fill}</symbol>'


def sld(name: str = "anomalies") -> str:
    """A style by the Styled Layer Descriptor 1.0.0 standard (OGC 02-070) with an outline for each level."""
    rules = "".join(_sld_rule(level, colour) for level, colour in COLOURS.items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<StyledLayerDescriptor version="1.0.0" xmlns="http://www.opengis.net/sld" '
        f'xmlns:ogc="http://www.opengis.net/ogc"><NamedLayer><Name>{escape(name)}</Name><UserStyle><Title>geoanom</Title>'
        f"<FeatureTypeStyle>{rules}</FeatureTypeStyle></UserStyle></NamedLayer></StyledLayerDescriptor>\n"
    )


def _sld_rule(level: str, colour: str) -> str:
    return (
        f"<Rule><Name>{level}</Name><ogc:Filter><ogc:PropertyIsEqualTo><ogc:PropertyName>level</ogc:PropertyName>"
        f"<ogc:Literal>{level}</ogc:Literal></ogc:PropertyIsEqualTo></ogc:Filter><PolygonSymbolizer>"
        f'<Fill><CssParameter name="fill">{colour}</CssParameter><CssParameter name="fill-opacity">0.15</CssParameter></Fill>'
        f'<Stroke><CssParameter name="stroke">{colour}</CssParameter><CssParameter name="stroke-width">2</CssParameter></Stroke>'
        "</PolygonSymbolizer></Rule>"
    )


def add_style(gpkg: Path, layer: str) -> None:
    """Embed the style in a GeoPackage as the layer's default, where QGIS looks for it."""
    with closing(sqlite3.connect(gpkg)) as connection, connection:
        connection.execute(TABLE)
        connection.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML, styleSLD, "
            "useAsDefault, description, owner) VALUES ('', '', ?, 'geometry', 'geoanom', ?, ?, 1, 'levels of anomalies', '')",
            (layer, qml(), sld(layer)),
        )
        registered = "INSERT OR IGNORE INTO gpkg_contents (table_name, data_type, identifier, last_change) VALUES (?, 'attributes', ?, ?)"
        connection.execute(registered, ("layer_styles", "layer_styles", "1970-01-01T00:00:00.000Z"))


def write_styles(path: Path) -> None:
    """Write ``.qml`` and ``.sld`` beside a layer, under its name, where QGIS and servers look for them.

    Raises:
        OutputError: they could not be written.
    """
    for suffix, text in ((".qml", qml()), (".sld", sld(path.stem))):
        with atomic_file(path.with_suffix(suffix)) as temporary:
            temporary.write_text(text, "utf-8")
