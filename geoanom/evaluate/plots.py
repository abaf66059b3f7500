"""Pictures of an evaluation, with matplotlib, which is an extra."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from geoanom.errors import ConfigError
from geoanom.layer.atomic import atomic_file

if TYPE_CHECKING:
    from pathlib import Path

    from geoanom.evaluate.judged import Judged


def require_matplotlib() -> None:
    """Say how to get matplotlib, before any work is done.

    Raises:
        ConfigError: it is missing.
    """
    if find_spec("matplotlib") is None:
        raise ConfigError("--pr-curve", "needs matplotlib, which is not installed", "pip install geoanom[plots]")


def write_pr_curve(judged: Judged, path: Path) -> None:
    """Draw precision over recall at every threshold, with the base rate and the average precision.

    Raises:
        ConfigError: matplotlib is missing.
        OutputError: the picture could not be written.
    """
    require_matplotlib()
    from matplotlib.figure import Figure
    from sklearn.metrics import PrecisionRecallDisplay

    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    PrecisionRecallDisplay.from_predictions(judged.truth, judged.scores, ax=axes, name="scores", plot_chance_level=True)
    axes.set(xlabel="recall", ylabel="precision", title=f"{judged.truth.sum()} of {judged.truth.size} places are anomalies")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
