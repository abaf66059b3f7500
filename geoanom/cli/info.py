"""``geoanom info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geoanom.cli.main import echo_json
from geoanom.cli.options import CONFIGURE, READ, RUN, config_from, options
from geoanom.errors import ExitCode

if TYPE_CHECKING:
    from geoanom.config import Config


@click.command()
@click.argument("path")
@options(CONFIGURE, READ, RUN)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(path: str, *, as_json: bool, **given: Any) -> int:
    """Tell what PATH is: a scene with its size, place, bands, validity and warnings, or a model."""
    config = config_from(given, (path,))
    facts = _model_facts(Path(path)) if (Path(path) / "model.json").is_file() else _scene_facts(path, config)
    if as_json:
        echo_json(facts)
        return ExitCode.DONE
    for name, value in facts.items():
        lines = value if isinstance(value, list) else [value]
        for i, line in enumerate(lines or ["none"]):
            click.echo(f"{name.replace('_', ' ') if i == 0 else '':<16} {_shown(line)}")
    return ExitCode.DONE


def _scene_facts(path: str, config: Config) -> dict[str, Any]:
    from geoanom.raster.blocks import Tally, stream_panels
    from geoanom.raster.scene import open_scene

    scene = open_scene(path, config)
    tally = Tally()
    n_valid = sum(int(panel.valid.sum()) for panel in stream_panels(scene, config, tally))
    georef, grid = scene.georef, scene.grid(config)
    return {
        "scene": scene.name,
        "sha256": scene.digest,
        "height": scene.height,
        "width": scene.width,
        "crs": None if georef.crs is None else georef.crs.name,
        "resolution_m": None if scene.resolution_m is None else round(scene.resolution_m, 3),
        "datetime": scene.datetime,
        "bands": [{"index": band.index, "name": band.name, "dtype": band.dtype} for band in scene.bands],
        "valid_fraction": round(n_valid / (scene.height * scene.width), 4),
        "tiles": len(grid),
        "tile_size": grid.size,
        "stride": grid.stride,
        "warnings": [*scene.warnings, *tally.warnings()],
    }


def _model_facts(folder: Path) -> dict[str, Any]:
    from geoanom.model.bundle import load_model

    model = load_model(folder, "cpu")
    return {
        "model": model.model_id,
        "backbone": model.config.embed.backbone,
        "dim": model.config.embed.dim,
        "bands": [{"index": band.index, "name": band.name, "dtype": band.dtype} for band in model.bands],
        "dtype": model.dtype,
        "resolution_m": None if model.resolution_m is None else round(model.resolution_m, 3),
        "tile_size": model.config.tiles.size,
        "stride": model.config.tiles.step,
        "members": list(model.member_names),
        "tiles_fitted": len(model.reference.halves),
        "scenes": [{"name": scene.name, "sha256": scene.digest} for scene in model.scenes],
    }


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    return "unknown" if value is None else str(value)
