"""``geoanom detect``, ``fit`` and ``score``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from geoanom.cli.options import CALL, CONFIGURE, CUT, FILE, OVERWRITE, READ, RUN, WRITE, config_from, options
from geoanom.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

    from geoanom.config import Config
    from geoanom.errors import GeoanomError
    from geoanom.layer.anomaly import AnomalyLayer
    from geoanom.pipeline import Outcome, Outputs

SCENES = (click.argument("scenes", nargs=-1, required=True, metavar="SCENE..."),)


@click.command()
@options(SCENES, CONFIGURE, CUT, READ, CALL, RUN, WRITE, OVERWRITE)
@click.option("-o", "--output", type=FILE, required=True, metavar="OUT", help="The anomaly layer; its suffix says the format.")
def detect(scenes: tuple[str, ...], output: Path, **given: Any) -> int:
    """Fit on SCENES, score them, and write one anomaly layer.

    No tile is judged by detectors that were fitted on it.
    """
    config = config_from(given, scenes)
    uris = _expanded(scenes, config)
    outputs = _outputs(output, given, len(uris))
    from geoanom import pipeline

    outcome, model = pipeline.detect(uris, config, outputs)
    return _report(outcome, config, output, model.model_id, exit_code=given["exit_code"])


@click.command()
@options(SCENES, CONFIGURE, CUT, READ, RUN, OVERWRITE)
@click.option("-o", "--output", type=FILE, required=True, metavar="MODEL", help="Folder of the model.")
def fit(scenes: tuple[str, ...], output: Path, *, overwrite: bool, **given: Any) -> int:
    """Train on SCENES and freeze a model.

    Run it again to go on where it was interrupted. Scenes of a folder, a pattern or a list that cannot be used are named and left out.
    """
    from geoanom.layer.atomic import check_output

    config = config_from(given, scenes)
    uris = _expanded(scenes, config)
    check_output(output, overwrite=overwrite)
    from geoanom import pipeline
    from geoanom.model.bundle import save_model
    from geoanom.model.partials import partial_folder

    lost: list[GeoanomError] = []
    model = pipeline.fit(uris, config, partial_folder(output), lost=None if uris == list(scenes) else lost)
    save_model(model, output)
    for error in lost:
        click.echo(f"geoanom: error: {error}", err=True)
    click.echo(f"{output}: model {model.model_id}, fitted on {len(model.reference.halves)} tiles of {len(model.scenes)} scenes", err=True)
    return ExitCode.PARTIAL if lost else ExitCode.DONE


@click.command()
@options(SCENES, CONFIGURE, READ, CALL, RUN, WRITE, OVERWRITE)
@click.option("-m", "--model", "model_path", type=FILE, required=True, metavar="MODEL", help="Folder that geoanom fit made.")
@click.option("-o", "--output", type=FILE, required=True, metavar="OUT", help="The anomaly layer; its suffix says the format.")
def score(scenes: tuple[str, ...], model_path: Path, output: Path, **given: Any) -> int:
    """Score SCENES with a frozen model, and write one anomaly layer.

    Tiles, bands, embedding and detectors are the model's; the threshold, the permissions and the device are yours.
    """
    config = config_from(given, scenes, model_is_frozen=True)
    uris = _expanded(scenes, config)
    outputs = _outputs(output, given, len(uris))
    from geoanom import pipeline
    from geoanom.model.bundle import load_model

    model = load_model(model_path, config.runtime.device)
    outcome = pipeline.score(uris, model, config, outputs)
    return _report(outcome, config, output, model.model_id, exit_code=given["exit_code"])


def _expanded(scenes: tuple[str, ...], config: Config) -> list[str]:
    """The scenes themselves, where folders, patterns, lists or catalogs are named."""
    from geoanom.sources.catalog import expand

    return expand(scenes, config)


def _outputs(output: Path, given: dict[str, Any], n_scenes: int) -> Outputs:
    """The outputs that are asked for, checked before torch is imported."""
    from geoanom.pipeline import Outputs

    kinds = {name: given[name] for name in ("heatmap", "embeddings", "quicklook", "report")}
    outputs = Outputs(layer=output, overwrite=given["overwrite"], **kinds)
    outputs.check(n_scenes)
    return outputs


def _report(outcome: Outcome, config: Config, output: Path, model_id: str, *, exit_code: bool) -> int:
    """Say what was found and what was lost; returns the exit code."""
    layer = outcome.layer
    for summary in layer.scenes:
        for warning in summary.warnings:
            click.echo(f"geoanom: warning: {summary.scene.uri}: {warning}", err=True)
    for failure in outcome.failures:
        click.echo(f"geoanom: error: {failure}", err=True)
    click.echo(f"{output}: {_summary(layer, config)}, model {model_id}", err=True)
    if outcome.failures:
        return ExitCode.PARTIAL
    return ExitCode.FOUND if exit_code and len(layer) else ExitCode.DONE


def _summary(layer: AnomalyLayer, config: Config) -> str:
    scored = sum(summary.tiles_scored for summary in layer.scenes)
    masked = sum(summary.tiles_masked for summary in layer.scenes)
    tiles = f"{scored} tiles scored" + (f", {masked} masked" if masked else "")
    if len(layer) == 0:
        rate = f"a false discovery rate of {config.threshold.fdr:g}"
        return f"nothing is significant at {rate}; --top 20 shows the most unusual places ({tiles})"
    return f"{len(layer)} anomalies ({tiles})"
