"""geoanom finds what does not belong in satellite imagery."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoanom.archive.archive import run_archive
    from geoanom.config import Config, load_config
    from geoanom.errors import ConfigError, GeoanomError, InputError, LockedError, ModelError, OutputError, SceneError
    from geoanom.layer.anomaly import Anomaly, AnomalyLayer
    from geoanom.layer.frame import to_geodataframe
    from geoanom.layer.scoremap import ScoreMap
    from geoanom.model import Model
    from geoanom.model.bundle import load_model, save_model
    from geoanom.pipeline import Outcome, Outputs, detect, fit, score
    from geoanom.raster.grid import TileGrid, Window
    from geoanom.raster.scene import Scene, open_scene

_HOMES = {
    "Anomaly": "layer.anomaly",
    "AnomalyLayer": "layer.anomaly",
    "Config": "config",
    "ConfigError": "errors",
    "GeoanomError": "errors",
    "InputError": "errors",
    "LockedError": "errors",
    "Model": "model",
    "ModelError": "errors",
    "Outcome": "pipeline",
    "OutputError": "errors",
    "Outputs": "pipeline",
    "Scene": "raster.scene",
    "SceneError": "errors",
    "ScoreMap": "layer.scoremap",
    "TileGrid": "raster.grid",
    "Window": "raster.grid",
    "detect": "pipeline",
    "fit": "pipeline",
    "load_config": "config",
    "load_model": "model.bundle",
    "open_scene": "raster.scene",
    "run_archive": "archive.archive",
    "save_model": "model.bundle",
    "score": "pipeline",
    "to_geodataframe": "layer.frame",
}

__all__ = [
    "Anomaly",
    "AnomalyLayer",
    "Config",
    "ConfigError",
    "GeoanomError",
    "InputError",
    "LockedError",
    "Model",
    "ModelError",
    "Outcome",
    "OutputError",
    "Outputs",
    "Scene",
    "SceneError",
    "ScoreMap",
    "TileGrid",
    "Window",
    "detect",
    "fit",
    "load_config",
    "load_model",
    "open_scene",
    "run_archive",
    "save_model",
    "score",
    "to_geodataframe",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


class _Package(ModuleType):
    """Keeps `geoanom.detect` the function, also after the room of that name was imported."""

    @property
    def detect(self) -> Any:
        """See `geoanom.pipeline.detect`."""
        return __getattr__("detect")

    @detect.setter
    def detect(self, room: ModuleType) -> None:
        """Importing the room would put it here; it stays in `sys.modules`."""


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
