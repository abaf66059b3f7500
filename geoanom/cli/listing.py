"""``geoanom list``."""

from __future__ import annotations

import click

from geoanom.cli.main import echo_json
from geoanom.errors import ExitCode
from geoanom.registry import BACKBONES, DETECTORS, EXPORTERS, SOURCES

TABLES = {table.kind: table for table in (BACKBONES, DETECTORS, EXPORTERS, SOURCES)}


@click.command("list")
@click.argument("kind", type=click.Choice(list(TABLES)))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_parts(kind: str, *, as_json: bool) -> int:
    """List the names of one KIND of part."""
    names = TABLES[kind].names()
    if kind == "backbones":
        from geoanom.embed.vision import model_names

        names += model_names()
    if as_json:
        echo_json(names)
        return ExitCode.DONE
    for name in names:
        click.echo(name)
    return ExitCode.DONE
