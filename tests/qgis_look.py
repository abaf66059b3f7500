"""What a real QGIS sees in some files, as JSON; for the Python that has PyQGIS, which needs not be the one of the tests.

The first argument is a JSON list of tasks: each has ``open``, a project or a data source, and as wanted its ``provider``, ``render``, a
PNG to write, ``tips``, to show the map tip of every feature, and ``sld``, a style to load after all. The answers come in the same order
on the last line of what is printed.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import (  # type: ignore[import-not-found]
    Qgis,
    QgsApplication,
    QgsExpression,
    QgsExpressionContext,
    QgsExpressionContextUtils,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProject,
    QgsProjectBadLayerHandler,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize  # type: ignore[import-not-found]
from qgis.PyQt.QtGui import QColor  # type: ignore[import-not-found]

SIZE = (900, 700)


class Complaints(QgsProjectBadLayerHandler):  # type: ignore[misc]
    """Everything that QGIS would show its user as a problem."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        QgsApplication.messageLog().messageReceived.connect(self.hear)

    def hear(self, message: str, tag: str, level: int) -> None:
        if level in (Qgis.Warning, Qgis.Critical):
            self.said.append(f"{tag}: {message}")

    def handleBadLayers(self, layers: list[Any]) -> None:  # noqa: N802 - QGIS calls it
        self.said += [f"bad layer: {node.toElement().text()[:200]}" for node in layers]


def look(task: dict[str, Any]) -> dict[str, Any]:
    if task["open"].endswith((".qgz", ".qgs")):
        return project(task)
    kind = QgsRasterLayer if task.get("provider") == "gdal" else QgsVectorLayer
    layer = kind(task["open"], "layer", task.get("provider", "ogr"))
    told = {"layers": [of_layer(layer, task)]}
    return {**told, **(render([layer], layer.crs(), layer.extent(), task["render"]) if task.get("render") else {})}


def project(task: dict[str, Any]) -> dict[str, Any]:
    read = QgsProject()
    handler = Complaints()
    read.setBadLayerHandler(handler)
    opened = read.read(task["open"])
    nodes = read.layerTreeRoot().findLayers()
    view = read.viewSettings().defaultViewExtent()
    told: dict[str, Any] = {
        "opened": opened,
        "title": read.title(),
        "crs": read.crs().authid() or read.crs().toWkt(),
        "view": corners(view),
        "view_crs": view.crs().authid(),
        "bad": handler.said,
        "layers": [{**of_layer(node.layer(), task), "visible": node.isVisible(), "name": node.name()} for node in nodes],
    }
    if task.get("render"):
        shown = [node.layer() for node in nodes if node.isVisible()]
        told |= render(shown, read.crs(), view, task["render"], read)
    read.clear()
    return told


def of_layer(layer: Any, task: dict[str, Any]) -> dict[str, Any]:
    if layer is None or not layer.isValid():
        return {"valid": False}
    told = {"valid": True, "crs": layer.crs().authid(), "extent": corners(layer.extent()), "source": layer.source()}
    renderer = layer.renderer()
    told["renderer"] = None if renderer is None else renderer.type()
    told |= of_raster(renderer) if isinstance(layer, QgsRasterLayer) else of_vector(layer, task)
    if task.get("sld"):
        layer.loadSldStyle(task["sld"])
        told["by_sld"] = layer.renderer().type()
    return told


def of_raster(renderer: Any) -> dict[str, Any]:
    told = {"bands": renderer.usesBands(), "opacity": renderer.opacity(), "alpha_band": renderer.alphaBand()}
    for name in ("redContrastEnhancement", "greenContrastEnhancement", "blueContrastEnhancement", "contrastEnhancement"):
        if hasattr(renderer, name):
            stretch = getattr(renderer, name)()
            told.setdefault("stretch", []).append([stretch.minimumValue(), stretch.maximumValue()])
    if renderer.type() == "singlebandpseudocolor":
        items = renderer.shader().rasterShaderFunction().colorRampItemList()
        told["ramp"] = [[item.value, item.color.name(), item.color.alpha()] for item in items]
    return told


def of_vector(layer: Any, task: dict[str, Any]) -> dict[str, Any]:
    features = list(layer.getFeatures())
    renderer = layer.renderer()
    told: dict[str, Any] = {
        "count": len(features),
        "declared": layer.featureCount(),
        "fields": [field.name() for field in layer.fields()],
        "ids": [f["anomaly_id"] for f in features] if layer.fields().lookupField("anomaly_id") >= 0 else [],
        "wkt": [f.geometry().asWkt(9) for f in features],
        "labels": layer.labeling().settings().fieldName if layer.labelsEnabled() and layer.labeling() else None,
        "aliases": {field.name(): layer.attributeAlias(i) for i, field in enumerate(layer.fields())},
        "shown_by": layer.displayExpression(),
        "tabs": tabs(layer),
    }
    if renderer is not None and renderer.type() == "categorizedSymbol":
        told["classes"] = {c.value(): colour_of(c.symbol()) for c in renderer.categories()}
    if renderer is not None and renderer.type() == "graduatedSymbol":
        told["classes"] = {f"{r.lowerValue():g} {r.upperValue():g}": colour_of(r.symbol()) for r in renderer.ranges()}
    if task.get("tips"):
        told["tips"] = [tip(layer, feature) for feature in features]
    return told


def colour_of(symbol: Any) -> str:
    return str(symbol.symbolLayer(symbol.symbolLayerCount() - 1).strokeColor().name())


def tabs(layer: Any) -> dict[str, list[str]]:
    found = layer.editFormConfig().tabs()
    return {tab.name(): [f.name() for f in tab.children() if f.idx() >= 0] for tab in found if hasattr(tab, "children")}


def tip(layer: Any, feature: Any) -> str:
    context = QgsExpressionContext(QgsExpressionContextUtils.globalProjectLayerScopes(layer))
    context.setFeature(feature)
    return str(QgsExpression.replaceExpressionText(layer.mapTipTemplate(), context))


def corners(extent: Any) -> list[float]:
    return [extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()]


def render(layers: list[Any], crs: Any, view: Any, png: str, read: Any = None) -> dict[str, Any]:
    """Draw the map."""
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(crs)
    settings.setExtent(view)
    settings.setOutputSize(QSize(*SIZE))
    settings.setBackgroundColor(QColor("white"))
    if read is not None:
        settings.setTransformContext(read.transformContext())
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    errors = [f"{error.layerID}: {error.message}" for error in job.errors()]
    job.renderedImage().save(png)
    return {"errors": errors}


def main() -> None:
    application = QgsApplication([], False)
    application.initQgis()
    complaints = Complaints()
    answers = []
    for task in json.loads(sys.argv[1]):
        complaints.said.clear()
        answers.append({**look(task), "said": list(complaints.said)})
    print(json.dumps({"version": Qgis.QGIS_VERSION, "answers": answers}))
    sys.stdout.flush()
    os._exit(0)  # PyQGIS is known to crash while it takes itself apart


if __name__ == "__main__":
    main()
