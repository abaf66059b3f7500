"""``geoanom pretrain``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from geoanom.cli.options import FILE, OVERWRITE, options
from geoanom.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("config", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, metavar="HEAD.safetensors", help="File of the head.")
@click.option("--data", type=FILE, metavar="DIR", help="Folder of the imagery; that of CONFIG by default.")
@options(OVERWRITE)
@click.option("-v", "--verbose", count=True, expose_value=False, help="Say more; twice for tracebacks.")
def pretrain(config: Path, *, output: Path, data: Path | None, overwrite: bool) -> int:
    """Learn an embedding head on broad imagery, as geoanom-base was; CONFIG says on which.

    The same imagery, settings and library versions give the same bytes.
    """
    from geoanom.config.pretraining import load_pretraining
    from geoanom.layer.atomic import atomic_file, check_output

    settings = load_pretraining(config)
    check_output(output, overwrite=overwrite)
    from geoanom.model.pretrain import pretrain as learn

    head = learn(settings, data or config.parent)
    with atomic_file(output) as temporary:
        temporary.write_bytes(head.content)
    explained = ", ".join(f"{share:.0%} in {dim}" for dim, share in head.note["explained_variance"].items())
    n_scenes, n_views = len(head.note["scenes"]), head.note["n_views"]
    click.echo(f"{output}: from {n_views} views of {n_scenes} scenes; variance explained by dimension: {explained}", err=True)
    return ExitCode.DONE
