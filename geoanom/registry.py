"""Names of the parts that can be swapped, and where each one lives.

A new backbone, detector, exporter or source is one file and one line in a table below. Other packages add theirs
through the entry point groups ``geoanom.backbones``, ``geoanom.detectors``, ``geoanom.exporters``, ``geoanom.sources``.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class Table:
    """A lazy map from a name to the object ``module:attr`` that builds the part."""

    kind: str
    """Plural of what the table lists, also the entry point group's last part."""
    builtin: Mapping[str, str]
    """Name to ``module:attr``."""

    def targets(self) -> dict[str, str]:
        """All names with their targets, the built-in ones first; a built-in name cannot be taken over."""
        extra = _declared(f"geoanom.{self.kind}")
        return {**self.builtin, **{name: target for name, target in extra.items() if name not in self.builtin}}

    def names(self) -> list[str]:
        """All names in the order of the table."""
        return list(self.targets())

    def load(self, name: str) -> Any:
        """Import and return what the name stands for.

        Raises:
            ConfigError: the name is unknown; the message names the nearest known one.
        """
        targets = self.targets()
        if name not in targets:
            raise unknown(self.kind.rstrip("s"), name, targets)
        module, _, attr = targets[name].partition(":")
        return attrgetter(attr)(importlib.import_module(module))


@cache
def _declared(group: str) -> Mapping[str, str]:
    """What installed packages declare; looked up once, as a lookup reads the metadata of all of them."""
    return {entry.name: entry.value for entry in entry_points(group=group)}


def unknown(what: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not in a table, with the nearest known name as the way out."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    return ConfigError(name, f"unknown {what}", hint)


BACKBONES = Table(
    "backbones",
    {
        "efficientnet_lite0": "geoanom.embed.lite0:build",
        "conv_ae": "geoanom.embed.conv_ae:build",
        "spectrum": "geoanom.embed.spectrum:build",
    },
)
"""Backbones by name; every torchvision classification model is known besides (`geoanom.embed.vision`)."""

DETECTORS = Table(
    "detectors",
    {
        "knn": "geoanom.detect.knn:Knn",
        "knn_tree": "geoanom.detect.pyod:KnnTree",
        "lof": "geoanom.detect.pyod:Lof",
        "iforest": "geoanom.detect.pyod:IForest",
        "gmm": "geoanom.detect.pyod:Gmm",
        "hbos": "geoanom.detect.pyod:Hbos",
        "mcd": "geoanom.detect.pyod:Mcd",
        "ocsvm": "geoanom.detect.pyod:Ocsvm",
        "ecod": "geoanom.detect.tails:Ecod",
        "copod": "geoanom.detect.tails:Copod",
        "rx": "geoanom.detect.rx:Rx",
        "agreement": "geoanom.detect.agreement:Agreement",
    },
)
"""Detectors by name; each passes the contract tests."""

EXPORTERS = Table(
    "exporters",
    {
        ".geojson": "geoanom.layer.geojson:write",
        ".json": "geoanom.layer.geojson:write",
        ".geojsonl": "geoanom.layer.geojson:write_lines",
        ".gpkg": "geoanom.layer.vector:write_gpkg",
        ".fgb": "geoanom.layer.vector:write_fgb",
        ".parquet": "geoanom.layer.geoparquet:write",
        ".csv": "geoanom.layer.points:write",
        ".kml": "geoanom.layer.vector:write_kml",
        ".tif": "geoanom.layer.heat:write",
    },
)
"""Writers of anomaly layers by file suffix."""

SOURCES = Table(
    "sources",
    {
        "sentinel2": "geoanom.sources.sentinel2:open_safe",
        "landsat": "geoanom.sources.landsat:open_landsat",
        "stac": "geoanom.sources.stac:open_stac",
        "remote": "geoanom.sources.remote:open_remote",
        "geotiff": "geoanom.sources.geotiff:open_raster",
    },
)
"""Openers of scenes by name, asked in this order."""

REFINEMENTS = Table("refinements", {"quality": "geoanom.sources.quality:with_quality"})
"""What is done to every opened scene, whatever its source, in this order."""
