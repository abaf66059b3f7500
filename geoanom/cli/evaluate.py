"""``geoanom evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from geoanom.cli.main import echo_json
from geoanom.cli.options import FILE, OVERWRITE, options
from geoanom.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

LABELS = {"auroc": "AUROC", "pro": "PRO (FPR up to 0.3)", "area_km2": "area (km²)", "false_alarms_per_km2": "false alarms per km²"}


@click.command()
@click.argument("scored", type=FILE, metavar="LAYER_OR_HEATMAP")
@click.argument("truth", type=FILE)
@click.option("--k", type=int, metavar="K", help="Of the precision at K; the number of true anomalies by default.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--pr-curve", type=FILE, metavar="PNG", help="Also draw precision over recall; needs geoanom[plots].")
@options(OVERWRITE)
@click.option("-v", "--verbose", count=True, expose_value=False, help="Say more; twice for tracebacks.")
def evaluate(scored: Path, truth: Path, *, k: int | None, as_json: bool, pr_curve: Path | None, overwrite: bool) -> int:
    """Compare LAYER_OR_HEATMAP, which geoanom wrote, with TRUTH.

    TRUTH is a mask (not zero = anomaly; nodata and negative = not labelled), a file of polygons or points, or a CSV with the columns
    row,col,label (cells of the heatmap), lon,lat,label or x,y,label. Pixels are compared where the truth is a mask, cells of the heatmap
    elsewhere. Precision, recall and false alarms are those of a layer; a heatmap has no threshold.
    """
    if pr_curve is not None:
        from geoanom.evaluate.plots import require_matplotlib
        from geoanom.layer.atomic import check_output

        require_matplotlib()
        check_output(pr_curve, overwrite=overwrite)
    from dataclasses import asdict

    from geoanom.evaluate.evaluation import figures, judge

    judged = judge(scored, truth)
    facts = asdict(figures(judged, k))
    if pr_curve is not None:
        from geoanom.evaluate.plots import write_pr_curve

        write_pr_curve(judged, pr_curve)
    _show(facts, as_json=as_json)
    return ExitCode.DONE


def _show(facts: dict[str, Any], *, as_json: bool) -> None:
    """Print the figures for a machine or, aligned, for a reader."""
    if as_json:
        echo_json(facts)
        return
    labels = [LABELS.get(name, name.replace("_", " ")) for name in facts]
    for label, value in zip(labels, facts.values(), strict=True):
        click.echo(f"{label:<{max(map(len, labels))}} {_shown(value):>12}")


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
