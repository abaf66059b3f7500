"""Small pieces of the XML that QGIS reads, built as trees so that every name is escaped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, indent, tostring

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyproj import CRS

DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
VERSION = "3.22.0-Białowieża"
"""The oldest QGIS that the files are meant for: a newer one reads them, and only an older one warns."""
NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, even escaped (https://www.w3.org/TR/xml/#charsets)."""


def element(tag: str, attributes: Mapping[str, object] | None = None, *children: Element, text: str | None = None) -> Element:
    """An element; characters that XML does not know become question marks."""
    made = Element(tag, {name: clean(str(value)) for name, value in (attributes or {}).items()})
    made.text = None if text is None else clean(text)
    made.extend(children)
    return made


def clean(text: str) -> str:
    """The text with a question mark for each character that XML cannot hold."""
    return NO_XML.sub("?", text)


def plain(name: str) -> str:
    """A name that QGIS shows as it stands, in print layouts too, where ``[% %]`` would be evaluated."""
    return name.replace("[%", "[ %")


def options(values: Mapping[str, object]) -> Element:
    """Settings as QGIS 3.20 and later writes them: a map of texts."""
    return element("Option", {"type": "Map"}, *(element("Option", {"type": "QString", "name": k, "value": v}) for k, v in values.items()))


def document(root: Element) -> str:
    """The text of a style or a project."""
    indent(root)
    return f"{DOCTYPE}{tostring(root, 'unicode')}\n"


def rgba(colour: str, alpha: int = 255) -> str:
    """``#rrggbb`` as QGIS writes it in symbols."""
    return ",".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5)) + f",{alpha}"


def reference_system(crs: CRS) -> Element:
    """A CRS as WKT 2, in which QGIS finds the number that it has in a register."""
    return element("spatialrefsys", {"nativeFormat": "Wkt"}, element("wkt", text=crs.to_wkt()))
