"""The whole story: fit a model on scenes, score scenes with a model, or both."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoanom.config import Config
from geoanom.detect.threshold import most_anomalous
from geoanom.errors import ConfigError, GeoanomError, InputError, SceneError
from geoanom.layer.anomaly import AnomalyLayer, SceneSummary, anomalies_of
from geoanom.layer.atomic import check_output
from geoanom.layer.cog import write_heatmap
from geoanom.layer.features import features_of
from geoanom.layer.quicklook import Thumbnail, write_quicklook
from geoanom.layer.regions import top_places
from geoanom.model.fitting import fit_model
from geoanom.model.harmony import matched, open_for
from geoanom.model.scoring import score_scene
from geoanom.raster.scene import open_scene
from geoanom.registry import EXPORTERS, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

    import numpy as np
    from numpy.typing import NDArray

    from geoanom.config import Threshold
    from geoanom.layer.anomaly import Anomaly
    from geoanom.layer.features import Features
    from geoanom.layer.scoremap import ScoreMap
    from geoanom.model import Model
    from geoanom.raster.scene import Scene

    Uri = str | PathLike[str]


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What is to be written; nothing by default."""

    layer: Path | None = None
    heatmap: Path | None = None
    embeddings: Path | None = None
    quicklook: Path | None = None
    report: Path | None = None
    overwrite: bool = False

    @property
    def raster(self) -> Path | None:
        """The layer, if it is to be written as a heatmap."""
        return self.layer if self.layer is not None and self.layer.suffix.lower() == ".tif" else None

    def check(self, n_scenes: int) -> None:
        """Refuse outputs that cannot be written, before any work is done.

        Raises:
            ConfigError: an unknown layer format, or a picture or heatmap of more than one scene.
            OutputError: an existing file, or a folder that is missing or closed.
        """
        if self.layer is not None and self.layer.suffix.lower() not in EXPORTERS.names():
            raise unknown("layer format", self.layer.suffix or self.layer.name, EXPORTERS.names())
        for path in (self.heatmap, self.quicklook, self.report, self.raster):
            if path is not None and n_scenes != 1:
                raise ConfigError(path, f"shows one scene, and {n_scenes} were given", "run once for each scene")
        wanted = [path for path in (self.layer, self.heatmap, self.embeddings, self.quicklook, self.report) if path is not None]
        for path in wanted:
            if wanted.count(path) > 1:
                raise ConfigError(path, "is named for two outputs", "give each a name of its own")
            check_output(path, overwrite=self.overwrite)


@dataclass(frozen=True)
class Outcome:
    """A layer, and the inputs that did not make it."""

    layer: AnomalyLayer
    failures: tuple[GeoanomError, ...]


def open_scenes(uris: Sequence[Uri], config: Config, model: Model | None = None) -> tuple[list[Scene], list[GeoanomError]]:
    """Open what can be opened, and collect what cannot; when nothing can, the first error is raised.

    A scene that is named twice, or a copy of it, is used once. For a model, its bands are opened unless the settings name others.
    """
    scenes: dict[str, Scene] = {}
    failures: list[GeoanomError] = []
    for uri in uris:
        try:
            scene = open_scene(uri, config) if model is None else open_for(uri, model, config)
        except (InputError, ConfigError) as error:
            failures.append(error)
        else:
            scenes.setdefault(scene.digest, scene)
    if not scenes:
        raise failures[0] if failures else ConfigError("scenes", "none were given", "name at least one raster")
    return sorted(scenes.values(), key=lambda scene: (scene.name, scene.digest)), failures


def fit(uris: Sequence[Uri], config: Config | None = None, resume: Path | None = None, *, lost: list[GeoanomError] | None = None) -> Model:
    """Fit a model on scenes.

    Args:
        uris: rasters.
        config: of the model.
        resume: a folder for what was computed of each scene, by which the next call goes on after an interruption; saving the
            model as ``M`` removes it if its name is ``M.partial``.
        lost: is given the errors of scenes that cannot be used, which are then left out.

    Raises:
        InputError: a scene cannot be used, and `lost` is None: a model is not fitted on fewer scenes than were named.
        OutputError: the partial results could not be written.
    """
    config = config or Config()
    scenes, failures = open_scenes(uris, config)
    if failures and lost is None:
        raise failures[0]
    if lost is None:
        return fit_model(scenes, config, resume)
    lost += failures
    return _fit_on_usable(scenes, config, resume, lost)


def _fit_on_usable(scenes: list[Scene], config: Config, resume: Path | None, lost: list[GeoanomError]) -> Model:
    """Fit without the scenes that do not go with the others."""
    while True:
        try:
            return fit_model(scenes, config, resume)
        except SceneError as error:
            rest = [scene for scene in scenes if scene.uri != error.subject]
            if len(rest) in (0, len(scenes)):
                raise
            lost.append(error)
            scenes = rest


def score(uris: Sequence[Uri], model: Model, config: Config | None = None, outputs: Outputs | None = None) -> Outcome:
    """Score scenes with a frozen model and write what is asked for.

    Args:
        uris: rasters.
        model: frozen.
        config: threshold, permissions and runtime; the rest is the model's.
        outputs: files to write.

    Raises:
        InputError: no scene could be scored.
        OutputError: an output could not be written; nothing stands under its name.
    """
    config = config or model.config.model_copy(update={"bands": None})  # the model itself knows its bands best
    scenes, failures = open_scenes(uris, config, model)
    return score_open(scenes, model, config, outputs or Outputs(), failures)


def detect(uris: Sequence[Uri], config: Config | None = None, outputs: Outputs | None = None) -> tuple[Outcome, Model]:
    """Fit a model on scenes and score them with it; each tile is judged by detectors that were not fitted on it."""
    config, outputs = config or Config(), outputs or Outputs()
    outputs.check(len(uris))
    scenes, failures = open_scenes(uris, config)
    check_places(scenes, outputs)
    model = fit_model(scenes, config)
    return score_open(scenes, model, config, outputs, failures), model


def score_open(scenes: Sequence[Scene], model: Model, config: Config, outputs: Outputs, failures: Sequence[GeoanomError]) -> Outcome:
    """Score scenes that are open already."""
    outputs.check(len(scenes))
    check_places(scenes, outputs)
    scenes, mismatched = _matched(scenes, model, config)
    failed = [*failures, *mismatched]
    if not scenes:
        raise failed[0]
    thumbnail = Thumbnail(scenes[0]) if outputs.quicklook else None
    watch = thumbnail.add if thumbnail else None
    with tempfile.TemporaryDirectory(prefix="geoanom-") as workdir:
        maps: list[ScoreMap] = []
        for scene in scenes:
            try:
                maps.append(score_scene(scene, model, config, Path(workdir), watch=watch))
            except InputError as error:
                failed.append(error)
        if not maps:
            raise failed[0]
        layer = make_layer(maps, model, config)
        write_outputs(layer, maps, outputs, config, thumbnail)
    return Outcome(layer, tuple(failed))


def check_places(scenes: Sequence[Scene], outputs: Outputs) -> None:
    """Refuse scenes that an output cannot show, before they are scored."""
    if outputs.raster is not None:
        from geoanom.layer.heat import check_place  # few runs need it

        for scene in scenes:
            check_place(scene.georef, outputs.raster)


def _matched(scenes: Sequence[Scene], model: Model, config: Config) -> tuple[list[Scene], list[GeoanomError]]:
    """The scenes as the model takes them, and why it does not take the others."""
    usable: list[Scene] = []
    failures: list[GeoanomError] = []
    for scene in scenes:
        try:
            usable.append(matched(scene, model, config))
        except InputError as error:
            failures.append(error)
    return usable, failures


def make_layer(maps: Sequence[ScoreMap], model: Model, config: Config) -> AnomalyLayer:
    """The anomalies of scored scenes under the threshold rule of the settings, scene by scene."""
    rule, value = next((name, v) for name, v in config.threshold if v is not None)
    anomalies: list[Anomaly] = []
    for scores in maps:
        anomalies += anomalies_of(scores, select(scores, config.threshold), model.model_id)
    effective = model.config.model_copy(update={"threshold": config.threshold, "sources": config.sources})
    return AnomalyLayer(
        model_id=model.model_id,
        config_digest=effective.digest(),
        threshold={"rule": rule, "value": value},
        scenes=tuple(SceneSummary(scene=m.scene, tiles_scored=len(m), tiles_masked=m.tiles_masked, warnings=m.warnings) for m in maps),
        anomalies=tuple(anomalies),
        tile_size=model.config.tiles.size,
        stride=model.config.tiles.step,
    )


def select(scores: ScoreMap, rule: Threshold) -> NDArray[np.bool_]:
    """The tiles (n,) of a scene that a threshold rule calls anomalous."""
    if rule.top is not None:
        return top_places(scores, rule.top)
    if rule.contamination is not None:
        return most_anomalous(scores.statistic, rule.contamination)
    chosen: NDArray[np.bool_] = scores.q_value <= (rule.fdr or 0.0)
    return chosen


def write_outputs(layer: AnomalyLayer, maps: Sequence[ScoreMap], outputs: Outputs, config: Config, thumbnail: Thumbnail | None) -> None:
    """Write what is asked for, the layer after what it stands for, and the page that shows all of it last."""
    if outputs.heatmap:
        write_heatmap(maps[0], outputs.heatmap)
    if outputs.embeddings:
        from geoanom.layer.embeddings import write_embeddings  # Arrow is large, and few runs need it

        write_embeddings(maps, outputs.embeddings, layer.model_id)
    if outputs.quicklook and thumbnail is not None:
        write_quicklook(layer, thumbnail, outputs.quicklook)
    if outputs.layer:
        export: Callable[[Features, Path], None] = EXPORTERS.load(outputs.layer.suffix.lower())
        export(features_of(layer, maps), outputs.layer)
    if outputs.report:
        from geoanom.layer.report.page import write_report  # few runs need it

        write_report(features_of(layer), outputs.report, scene=maps[0].scene, heatmap=outputs.heatmap, config=config)
