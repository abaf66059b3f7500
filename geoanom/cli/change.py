"""``geoanom change``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from geoanom.cli.options import CALL, CONFIGURE, FILE, OVERWRITE, READ, RUN, WRITE, config_from, options
from geoanom.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("before")
@click.argument("after")
@options(CONFIGURE, READ, CALL, RUN, tuple(option for option in WRITE if option is not WRITE[1]), OVERWRITE)
@click.option("-o", "--output", type=FILE, required=True, metavar="OUT", help="The anomaly layer; its suffix says the format.")
def change(before: str, after: str, output: Path, **given: Any) -> int:
    """Find what became different from BEFORE to AFTER, and write one anomaly layer.

    AFTER is brought to the grid of BEFORE; a shift between them and the gain and offset of each band are removed. Each change says
    whether something appeared, vanished or was altered. Nothing is learned but from the two dates themselves.
    """
    config = config_from(given, (before, after))
    from geoanom.pipeline import Outputs

    kinds = {name: given[name] for name in ("heatmap", "quicklook", "report")}
    outputs = Outputs(layer=output, overwrite=given["overwrite"], **kinds)
    outputs.check(1)
    from geoanom.change.run import change as compare

    layer = compare(before, after, config, outputs).layer
    for warning in layer.scenes[0].warnings:
        click.echo(f"geoanom: warning: {after}: {warning}", err=True)
    found = f"{len(layer)} changes" if len(layer) else "no change is significant; --top 20 shows the largest ones all the same"
    click.echo(f"{output}: {found} ({layer.scenes[0].tiles_scored} cells compared)", err=True)
    return ExitCode.FOUND if given["exit_code"] and len(layer) else ExitCode.DONE
