"""The architecture: rooms, layers, laziness, the public names."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import geoanom

PACKAGE = Path(geoanom.__file__).parent
LAYERS = [
    {"errors", "config", "registry"},
    {"raster", "sources"},
    {"layer", "detect", "embed"},
    {"model"},
    {"pipeline"},
    {"change"},
    {"archive", "explore", "evaluate"},
    {"monitor"},
    {"cli"},
]
ONLY = {
    "torch": ("embed.", "detect.knn"),
    "torchvision": ("embed.",),
    "timm": ("embed.",),
    "pyod": ("detect.pyod",),
    "click": ("cli.",),
    "distributed": ("archive.cluster",),
    "rasterio": ("raster.", "sources.", "layer.", "evaluate.rasters"),
}


def imports_of(path: Path) -> set[str]:
    """Dotted names of what a module imports when it runs; imports for types alone do not count."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    for_types = {
        n for block in ast.walk(tree) if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test) for n in ast.walk(block)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def level(room: str) -> int:
    return next(i for i, rooms in enumerate(LAYERS) if room in rooms)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downward_and_libraries_keep_to_their_rooms(path: Path) -> None:
    module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    room = module.split(".")[0]
    for target in imports_of(path):
        top, _, rest = target.partition(".")
        if top in ONLY:
            assert module.startswith(ONLY[top]), f"{module} imports {top}"
        if top == "geoanom" and room not in ("__init__", "__main__"):
            theirs = rest.split(".")[0]
            assert theirs == room or level(theirs) < level(room) or {theirs, room} == {"raster", "sources"} or level(theirs) == 0, (
                f"{module} imports {target}"
            )


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, geoanom; heavy = {'torch', 'pyod', 'numpy', 'rasterio'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_can_be_had() -> None:
    for name in geoanom.__all__:
        assert getattr(geoanom, name) is not None
    assert set(dir(geoanom)) == set(geoanom.__all__)
    with pytest.raises(AttributeError):
        _ = geoanom.nothing


def test_the_public_names_are_frozen() -> None:
    assert sorted(geoanom.__all__) == [
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


def test_the_lock_on_gdal_is_set_before_gdal_is_loaded() -> None:
    code = """
import os, sys
os.environ.update(GDAL_SKIP="", CPL_VSIL_CURL_ALLOWED_FILENAME="anything", PROJ_NETWORK="ON")
import geoanom.raster
assert "rasterio" not in sys.modules
from rasterio.drivers import raster_driver_extensions
import rasterio
with rasterio.Env() as env:
    assert "VRT" not in env.drivers() and "WMS" not in env.drivers() and "GTiff" in env.drivers()
assert os.environ["CPL_VSIL_CURL_ALLOWED_FILENAME"] == "none" and os.environ["PROJ_NETWORK"] == "OFF"
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
