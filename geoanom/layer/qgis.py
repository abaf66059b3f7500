"""A QGIS project of a layer with its scene and heatmap, written as text: no QGIS is needed for it."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyogrio

from geoanom.config import Config
from geoanom.errors import InputError, OutputError
from geoanom.layer.arrow import schema_of
from geoanom.layer.atomic import atomic_file
from geoanom.layer.qgis_place import WGS84, place_of
from geoanom.layer.qgis_raster import heat_style, scene_style
from geoanom.layer.qgis_scene import alpha_band, crs_of, stretches
from geoanom.layer.qgis_vector import style
from geoanom.layer.qgis_xml import NO_XML, VERSION, clean, document, element, plain, reference_system
from geoanom.raster.scene import open_scene

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from pyproj import CRS

    from geoanom.layer.features import Features
    from geoanom.layer.qgis_place import Bounds
    from geoanom.raster.scene import Scene

FORMATS = (".gpkg", ".geojson", ".json", ".fgb", ".kml")
"""Layers with outlines that every build of QGIS opens, empty or not; many have no Parquet."""
LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""Time of the file in the zip, since equal content must give equal files."""


@dataclass(frozen=True, kw_only=True)
class _MapLayer:
    """One layer of the map, as the project tells of it."""

    key: str
    """What it holds."""
    name: str
    path: Path
    of: str | None = None
    """Name of the layer in its file, where it has several."""
    crs: CRS
    style: tuple[Element, ...]
    visible: bool = True

    @property
    def identity(self) -> str:
        """Its identity in the project; QGIS takes none of ten characters or fewer."""
        return f"geoanom_{self.key}"

    @property
    def is_raster(self) -> bool:
        """Rasters are drawn by GDAL, the others by OGR."""
        return self.key in ("heatmap", "scene")


def write_project(
    features: Features, path: Path, *, layer: Path, scene: Path | None = None, heatmap: Path | None = None, opened: Scene | None = None
) -> None:
    """Write a ``.qgz`` that shows a layer over its heatmap and its scene; it names the files relative to itself.

    Args:
        features: what the layer holds.
        path: the project.
        layer: file of the layer, in one of `FORMATS`; the layers `tiles` and `scenes` of a GeoPackage are shown, too.
        scene: a raster file; its bands are chosen and stretched as in all pictures.
        heatmap: the scores of the same run.
        opened: the scene, where it is open already.

    Raises:
        InputError: a file that a project cannot name or show.
        OutputError: it could not be written, or does not read back.
    """
    check_sources(features, layer, scene, heatmap)
    if scene is not None and opened is None:
        opened = open_scene(scene, Config())
    crs, bounds = place_of(features, opened)
    layers = [*_vectors(features, layer), *_heatmaps(heatmap, crs), *_scenes(scene, opened, crs)]
    text = document(_project(_title(features), crs, bounds, layers, path))
    with atomic_file(path) as temporary:
        _pack(text, clean(path.stem), temporary, path)


def check_sources(features: Features, layer: Path, scene: Path | None = None, heatmap: Path | None = None) -> None:
    """Refuse what a project cannot show; the layer's file needs not exist yet.

    Raises:
        InputError: one cannot be shown.
    """
    if layer.suffix.lower() not in FORMATS:
        raise InputError(layer, "is no layer that every QGIS can show", f"choose one of {', '.join(FORMATS)} for a project")
    if features.in_pixels:
        why = "is in pixels, whose rows run down where those of a map run up: QGIS would show it upside down"
        raise InputError(layer, why, "see it with geoanom report")
    if scene is not None and not scene.is_file():
        raise InputError(
            scene, "cannot be shown in a project, which shows a raster file of this computer", "name one, or leave --scene out"
        )
    if heatmap is not None:
        crs_of(heatmap)
    for source in (layer, scene, heatmap):
        if source is not None and ("|" in source.name or NO_XML.search(str(source))):
            raise InputError(source, "has a character in its name that no project can hold", "rename it")


def _vectors(features: Features, layer: Path) -> list[_MapLayer]:
    several = layer.suffix.lower() == ".gpkg"
    fields = [name for name in schema_of(features).names if name != "geometry"]
    names = [str(name) for name, _ in pyogrio.list_layers(layer)] if several else []
    found = _MapLayer(
        key="anomalies",
        name="Anomalies",
        path=layer,
        of="anomalies" if several else None,
        crs=WGS84,
        style=tuple(style("anomalies", fields)),
    )
    more = [
        _MapLayer(key=key, name=name, path=layer, of=key, crs=WGS84, style=tuple(style(key)), visible=key != "tiles")
        for key, name in (("tiles", "Tiles by score"), ("scenes", "Edges of scenes"))
        if key in names
    ]
    return [found, *more]


def _heatmaps(heatmap: Path | None, project: CRS) -> list[_MapLayer]:
    return (
        []
        if heatmap is None
        else [_MapLayer(key="heatmap", name="Score", path=heatmap, crs=crs_of(heatmap, project), style=tuple(heat_style()))]
    )


def _scenes(scene: Path | None, opened: Scene | None, project: CRS) -> list[_MapLayer]:
    if scene is None or opened is None:
        return []
    look = scene_style(stretches(opened), alpha_band(scene))
    return [_MapLayer(key="scene", name=plain(opened.name), path=scene, crs=crs_of(scene, project), style=tuple(look))]


def _title(features: Features) -> str:
    names = [str(entry.get("name")) for entry in features.provenance.get("scenes", ())]
    return "Anomalies" if not names else f"Anomalies of {plain(names[0]) if len(names) == 1 else f'{len(names)} scenes'}"


def _project(title: str, crs: CRS, bounds: Bounds | None, layers: list[_MapLayer], path: Path) -> Element:
    """The whole project, as QGIS 3.22 writes it, without what QGIS fills in by itself."""
    return element(
        "qgis",
        {"projectname": title, "version": VERSION},
        element("homePath", {"path": ""}),
        element("title", text=title),
        element("projectCrs", {}, reference_system(crs)),
        _tree(layers, path),
        *_first_view(crs, bounds),
        element("projectlayers", {}, *(_map_layer(layer, path) for layer in layers)),
        element("layerorder", {}, *(element("layer", {"id": layer.identity}) for layer in reversed(layers))),
        element("properties", {}, *_properties()),
    )


def _properties() -> list[Element]:
    """Relative paths; and the project has a CRS."""
    return [
        element("Paths", {}, element("Absolute", {"type": "bool"}, text="false")),
        element("SpatialRefSys", {}, element("ProjectionsEnabled", {"type": "int"}, text="1")),
    ]


def _tree(layers: list[_MapLayer], path: Path) -> Element:
    nodes = [
        element(
            "layer-tree-layer",
            {
                "id": layer.identity,
                "name": layer.name,
                "source": _source(layer, path),
                "providerKey": "gdal" if layer.is_raster else "ogr",
                "checked": "Qt::Checked" if layer.visible else "Qt::Unchecked",
                "expanded": int(layer.key == "anomalies"),
                "legend_exp": "",
            },
            element("customproperties"),
        )
        for layer in layers
    ]
    return element("layer-tree-group", {}, element("customproperties"), *nodes)


def _map_layer(layer: _MapLayer, path: Path) -> Element:
    kind = (
        {"type": "raster"} if layer.is_raster else {"type": "vector", "geometry": "Polygon", "labelsEnabled": int(layer.key == "anomalies")}
    )
    return element(
        "maplayer",
        {**kind, "hasScaleBasedVisibilityFlag": 0, "styleCategories": "AllStyleCategories"},
        element("id", text=layer.identity),
        element("datasource", text=_source(layer, path)),
        element("layername", text=layer.name),
        element("srs", {}, reference_system(layer.crs)),
        element("provider", {} if layer.is_raster else {"encoding": "UTF-8"}, text="gdal" if layer.is_raster else "ogr"),
        *layer.style,
    )


def _source(layer: _MapLayer, path: Path) -> str:
    """The file relative to the project, as QGIS writes it."""
    relative = Path(os.path.relpath(layer.path.absolute(), path.absolute().parent)).as_posix()
    dotted = relative if relative.startswith("../") else f"./{relative}"
    return dotted if layer.of is None else f"{dotted}|layername={layer.of}"


def _first_view(crs: CRS, bounds: Bounds | None) -> list[Element]:
    """What the map shows first, for the window of QGIS and for programs."""
    if bounds is None:
        return []
    corners = {name: f"{value:.9g}" for name, value in zip(("xmin", "ymin", "xmax", "ymax"), bounds, strict=True)}
    extent = element("extent", {}, *(element(name, text=value) for name, value in corners.items()))
    canvas = element(
        "mapcanvas", {"name": "theMapCanvas"}, extent, element("rotation", text="0"), element("destinationsrs", {}, reference_system(crs))
    )
    default = element("DefaultViewExtent", corners, reference_system(crs))
    return [canvas, element("ProjectViewSettings", {"UseProjectScales": 0}, default)]


def _pack(text: str, stem: str, temporary: Path, path: Path) -> None:
    """Zip the project and read it back."""
    about = zipfile.ZipInfo(f"{stem}.qgs", LONG_AGO)
    about.compress_type, about.external_attr, about.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
    with zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(about, text.encode())
    with zipfile.ZipFile(temporary) as archive:
        if archive.read(about.filename) != text.encode():
            raise OutputError(path, "does not read back after writing", "check the disk")
