"""``geoanom report``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from geoanom.cli.options import CONFIGURE, FILE, OVERWRITE, READ, config_from, options
from geoanom.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

    from geoanom.layer.features import Features
    from geoanom.raster.scene import Scene


@click.command()
@click.argument("layer", type=FILE)
@click.option("--scene", metavar="SCENE", help="Show it under the anomalies, with pictures and band profiles of each.")
@click.option("--heatmap", type=FILE, metavar="TIF", help="Also show the scores that the same run wrote for the scene.")
@click.option(
    "--limit", type=click.IntRange(1, 2000), default=200, show_default=True, metavar="N", help="Show the N highest scores at most."
)
@options(CONFIGURE, READ, OVERWRITE)
@click.option("-v", "--verbose", count=True, expose_value=False, help="Say more; twice for tracebacks.")
@click.option("-o", "--output", type=FILE, required=True, metavar="HTML", help="The page.")
def report(layer: Path, output: Path, *, scene: str | None, heatmap: Path | None, limit: int, overwrite: bool, **given: Any) -> int:
    """Write LAYER as one page to look at and to confirm or dismiss what was found.

    The page needs no network and no other file. With --scene it shows the anomalies of that scene only. Verdicts can be downloaded
    from it and imported into the page of somebody else.
    """
    from geoanom.layer.atomic import check_output
    from geoanom.layer.reading import read_features
    from geoanom.layer.report.page import write_report

    check_output(output, overwrite=overwrite)
    config = config_from(given, (scene,) if scene else ())
    features = read_features(layer)
    opened = None if scene is None else _opened(scene, features, given)
    n_shown = write_report(features, output, scene=opened, heatmap=heatmap, limit=limit, config=config)
    click.echo(f"{output}: {n_shown} anomalies, {output.stat().st_size / 1e6:.1f} MB", err=True)
    return ExitCode.DONE


def _opened(scene: str, features: Features, given: dict[str, Any]) -> Scene:
    """The scene; without a CRS where the layer is in pixels."""
    from geoanom.raster.scene import open_scene

    return open_scene(scene, config_from({**given, "pixel_space": given["pixel_space"] or features.in_pixels or None}, (scene,)))
