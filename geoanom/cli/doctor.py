"""``geoanom doctor``."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from geoanom.cli.main import echo_json
from geoanom.errors import ExitCode

PACKAGES = ("geoanom", "torch", "torchvision", "timm", "rasterio", "pyproj", "shapely", "geopandas", "pyarrow", "pyod", "scikit-learn")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(*, as_json: bool) -> int:
    """Say what is available, on which device, how fast."""
    facts = {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "gdal": _gdal(),
        "cores": os.cpu_count(),
        **_devices(),
        "tiles_per_s": _speed(),
    }
    if as_json:
        echo_json(facts)
        return ExitCode.DONE
    for name, value in facts.items():
        shown = ", ".join(f"{key} {part}" for key, part in value.items()) if isinstance(value, dict) else value
        click.echo(f"{name.replace('_', ' '):<12} {shown}")
    return ExitCode.DONE


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _gdal() -> str:
    from geoanom.sources.geotiff import gdal_version

    return gdal_version()


def _devices() -> dict[str, Any]:
    from geoanom.embed.device import describe_device, pick_device

    return {"device": describe_device(pick_device("auto"))}


def _speed() -> float:
    """Tiles of 64 px that the default backbone takes in a second, four bands, on the default device."""
    from geoanom.embed.speed import tiles_per_second

    return round(tiles_per_second(), 1)
