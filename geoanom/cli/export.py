"""``geoanom export``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from geoanom.cli.options import FILE, OVERWRITE, options
from geoanom.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("layer", type=FILE, metavar="IN")
@click.argument("output", type=FILE, metavar="OUT")
@click.option("--styles", is_flag=True, help="Also write OUT's .qml for QGIS and .sld for servers beside it.")
@options(OVERWRITE)
def export(layer: Path, output: Path, *, styles: bool, overwrite: bool) -> int:
    """Write the layer IN in another format; it follows the suffix of OUT.

    A million anomalies are no matter: a few thousand are in memory at a time.
    """
    from geoanom.layer.atomic import check_output
    from geoanom.layer.reading import read_features
    from geoanom.layer.styles import write_styles
    from geoanom.registry import EXPORTERS, unknown

    suffix = output.suffix.lower()
    if suffix not in EXPORTERS.names():
        raise unknown("layer format", suffix or output.name, EXPORTERS.names())
    check_output(output, overwrite=overwrite)
    EXPORTERS.load(suffix)(read_features(layer), output)
    if styles:
        write_styles(output)
    return ExitCode.DONE
