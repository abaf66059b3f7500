"""``geoanom benchmark``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from geoanom.cli.options import CONFIGURE, FILE, OVERWRITE, RUN, config_from, options
from geoanom.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("suite")
@click.option("--data", type=FILE, required=True, metavar="DIR", help="Folder of the benchmark's data.")
@options(CONFIGURE, RUN)
@click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="Runs with different seeds; the suite's own number by default.")
@click.option("--peers/--no-peers", default=True, help="Measure other methods on the same data (default), or only geoanom.")
@click.option("--chip-px", type=click.IntRange(min=8, max=2048), metavar="N", help="rare-tiles: side that chips are reduced to; 400.")
@options(OVERWRITE)
@click.option("--json", "json_path", type=FILE, metavar="FILE", help="Also write every single measurement as JSON.")
@click.option("-o", "--output", type=FILE, metavar="FILE.md", help="Also write the tables to a file.")
def benchmark(suite: str, *, data: Path, output: Path | None, json_path: Path | None, overwrite: bool, **given: Any) -> int:
    """Measure geoanom where the truth is known: SUITE is rare-tiles, hyperspectral, planted, traps or change.

    The tables are printed in Markdown.
    """
    config = config_from(given)
    from tqdm import tqdm

    from geoanom.evaluate.benchmark import check_outputs, run_suite, write_results

    check_outputs(output, json_path, overwrite=overwrite)
    asked = {name: given[name] for name in ("seeds", "peers", "chip_px")}
    results = run_suite(suite, data, config, progress=partial(tqdm, disable=None), **asked)
    click.echo(results.markdown(), nl=False)
    write_results(results, output, json_path)
    return ExitCode.DONE
