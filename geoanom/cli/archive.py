"""``geoanom archive run`` and ``archive status``."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from geoanom.cli.main import echo_json
from geoanom.cli.options import CALL, CONFIGURE, FILE, READ, RUN, config_from, options
from geoanom.errors import ExitCode, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from geoanom.archive.archive import Report
    from geoanom.archive.progress import Watcher


@click.group()
def archive() -> None:
    """Score whole archives of scenes, and see how far that is."""


@archive.command()
@click.argument("scenes", metavar="DIR_OR_LIST")
@options(CONFIGURE, READ, CALL, RUN)
@click.option("-m", "--model", type=FILE, required=True, metavar="MODEL", help="Folder that geoanom fit made.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Processes on this machine; 1 by default.")
@click.option("--scheduler", metavar="ADDRESS", help="Let the workers of a Dask scheduler work, such as tcp://host:8786.")
@click.option("--retry", is_flag=True, help="Try again what was refused or quarantined.")
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", help="json: one object a line for everything that happens."
)
@click.option("--metrics", type=FILE, metavar="PROM", help="Also keep a textfile for Prometheus.")
@click.option("-o", "--output", type=FILE, required=True, metavar="OUTDIR", help="Folder for layers, manifest and ledger.")
def run(scenes: str, model: Path, output: Path, *, workers: int | None, scheduler: str | None, retry: bool, **given: Any) -> int:
    """Score all scenes of a folder, a pattern or a list with a frozen model.

    Run it again to go on where it was interrupted: what is done is not done twice.
    """
    sets = [*given.pop("sets"), *([f"archive.workers={workers}"] if workers else [])]
    config = config_from({**given, "sets": sets}, (scenes,), model_is_frozen=True)
    from geoanom.archive.archive import run_archive

    watchers = _watchers(given["log_format"], given["metrics"])
    report = run_archive(scenes, model, output, config, scheduler=scheduler, retry=retry, watchers=watchers)
    if given["log_format"] == "text":
        with suppress(BrokenPipeError):  # the exit code is told all the same
            click.echo(f"{output}: {_summary(report.totals)}{_ending(report)}", err=True)
    return _exit_code(report)


@archive.command()
@click.argument("folder", type=FILE, metavar="OUTDIR")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def status(folder: Path, *, as_json: bool) -> int:
    """Tell how far a run is, also while it is running."""
    from geoanom.archive.archive import status_of

    found = status_of(folder)
    if as_json:
        echo_json(found)
        return ExitCode.DONE
    click.echo(f"{_summary(found['totals'])}; {found['totals']['anomalies']} anomalies, model {found['model_id']}")
    for busy in found["running"]:
        click.echo(f"  worker {busy['worker']}: {one_line(busy['scene'])}, for {time.time() - busy['since']:.0f} s")
    for scene in found["scenes"]:
        if scene["error"]:
            click.echo(f"  {scene['state']}: {one_line(scene['path'])}: {scene['error']['message']}")
        elif scene["duplicate_of"]:
            click.echo(f"  duplicate: {one_line(scene['path'])} is the same as {one_line(scene['duplicate_of'])}")
    return ExitCode.DONE


def _watchers(log_format: str, metrics: Path | None) -> Callable[[int], Sequence[Watcher]]:
    from geoanom.archive.progress import JsonLines, Lines, Metrics

    figures = [Metrics(metrics)] if metrics else []
    return lambda n_scenes: [JsonLines() if log_format == "json" else Lines(n_scenes), *figures]


def _summary(totals: dict[str, int]) -> str:
    states = ("done", "partial", "failed", "refused", "quarantined", "duplicate", "running", "pending")
    return ", ".join(f"{totals[state]} {state}" for state in states if totals.get(state)) or "no scene"


def _ending(report: Report) -> str:
    """What was found, or that there is more to do."""
    if report.signal is not None:
        return "; interrupted, run again to go on"
    return f"; {sum(row.anomalies for row in report.rows.values())} anomalies"


def _exit_code(report: Report) -> int:
    if report.signal is not None:
        return 128 + report.signal
    if report.is_clean:
        return ExitCode.DONE
    return ExitCode.PARTIAL if report.n_scored else ExitCode.REFUSED
