"""Anomalies of change between two dates, with the same outputs as those of one date."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoanom.change.pair import open_pair
from geoanom.change.scoring import fit_judge, score_pair
from geoanom.config import Config, canonical_json
from geoanom.embed.threads import one_thread
from geoanom.layer.anomaly import AnomalyLayer, SceneSummary, anomalies_of
from geoanom.layer.quicklook import Thumbnail
from geoanom.pipeline import Outcome, Outputs, check_places, select, write_outputs
from geoanom.raster.blocks import stream_panels

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from geoanom.change.pair import Pair
    from geoanom.change.scoring import ChangeJudge
    from geoanom.layer.scoremap import ScoreMap


@one_thread()
def change(
    before: str | PathLike[str], after: str | PathLike[str], config: Config | None = None, outputs: Outputs | None = None
) -> Outcome:
    """Find what became different between two dates of a place, and write what is asked for.

    Args:
        before: the earlier raster; its grid is the common one.
        after: the later raster, which is brought to that grid.
        config: how they are read, compared and called.
        outputs: files to write; embeddings are not among them.

    Raises:
        InputError: one cannot be used, or they have no place or bands in common.
        OutputError: an output could not be written; nothing stands under its name.
    """
    config, outputs = config or Config(), outputs or Outputs()
    outputs.check(1)
    pair = open_pair(before, after, config)
    check_places([pair.after], outputs)
    judge = fit_judge(pair, config)
    with tempfile.TemporaryDirectory(prefix="geoanom-") as workdir:
        scores = score_pair(pair, judge, config, Path(workdir))
        layer = layer_of(pair, judge, scores, config)
        write_outputs(layer, [scores], outputs, config, _thumbnail(pair, config) if outputs.quicklook else None)
    return Outcome(layer, ())


def layer_of(pair: Pair, judge: ChangeJudge, scores: ScoreMap, config: Config) -> AnomalyLayer:
    """The anomalies of a scored pair under the threshold rule of the settings."""
    rule, value = next((name, v) for name, v in config.threshold if v is not None)
    model_id = _identity(pair, config)
    summary = SceneSummary(scene=scores.scene, tiles_scored=len(scores), tiles_masked=scores.tiles_masked, warnings=scores.warnings)
    return AnomalyLayer(
        model_id=model_id,
        config_digest=config.digest(),
        threshold={"rule": rule, "value": value},
        scenes=(summary,),
        anomalies=tuple(anomalies_of(scores, select(scores, config.threshold), model_id)),
        tile_size=scores.grid.size,
        stride=scores.grid.stride,
        about=_about(pair, judge),
    )


def _identity(pair: Pair, config: Config) -> str:
    """Stands where a frozen model's identity stands: the earlier date and how the two are compared."""
    settings = {name: getattr(config, name).model_dump(mode="json") for name in ("change", "calibrate", "tiles")}
    told = {"before": pair.before.digest, "bands": [band.index for band in pair.before.bands], **settings}
    return hashlib.sha256(canonical_json(told).encode()).hexdigest()[:12]


def _about(pair: Pair, judge: ChangeJudge) -> Mapping[str, Any]:
    light = judge.statistic.measures.light
    return {
        "before": {"name": pair.before.name, "digest": pair.before.digest, "datetime": pair.before.datetime},
        "shift_px": [round(pair.shift.rows, 2), round(pair.shift.cols, 2)],
        "gain": [float(f"{gain:.4g}") for gain in light.gain],
        "offset": [float(f"{offset:.4g}") for offset in light.offset],
    }


def _thumbnail(pair: Pair, config: Config) -> Thumbnail:
    thumbnail = Thumbnail(pair.after)
    for panel in stream_panels(pair.after, config):
        thumbnail.add(panel)
    return thumbnail
