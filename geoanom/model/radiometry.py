"""The first pass of a fit: how the values of the training scenes are scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tqdm import tqdm

from geoanom.model.partials import made_of
from geoanom.raster.normalize import Normalizer, fit_normalizer, normalizer_of, quantile_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.model.core import Model
    from geoanom.model.partials import Partials
    from geoanom.raster.scene import Scene


@dataclass(frozen=True, kw_only=True)
class Radiometry:
    """How scenes are scaled."""

    pooled: Normalizer
    """Of all scenes together."""
    own: Mapping[str, Normalizer]
    """Of each scene by itself, by digest; empty where all are scaled alike."""

    def of(self, scene: Scene) -> Normalizer:
        """How a scene is scaled."""
        return self.own.get(scene.digest, self.pooled)


def fit_radiometry(scenes: Sequence[Scene], config: Config, partials: Partials) -> Radiometry:
    """Normalizers of scenes, from the quantiles of each, which are kept in files and not in memory.

    Raises:
        SceneError: a scene has no valid pixel.
        OutputError: the quantiles could not be written.
    """
    for scene in tqdm(scenes, desc="measuring", unit="scene", disable=None if len(scenes) > 1 else True):
        _table(scene, config, partials)
    pooled = normalizer_of(lambda: (_table(scene, config, partials) for scene in scenes), config)
    if config.normalize.per == "archive":
        return Radiometry(pooled=pooled, own={})
    return Radiometry(pooled=pooled, own={scene.digest: _own_normalizer(scene, config, partials) for scene in scenes})


def normalizer_for(scene: Scene, model: Model, config: Config) -> Normalizer:
    """How a scene is scaled for a model: as its training scenes, or by its own percentiles, which takes a pass over its pixels."""
    if model.config.normalize.per == "archive":
        return model.embedder.normalizer
    reading = model.config.model_copy(update={"sources": config.sources, "runtime": config.runtime})
    return fit_normalizer([scene], reading)


def _own_normalizer(scene: Scene, config: Config, partials: Partials) -> Normalizer:
    table = _table(scene, config, partials)
    return normalizer_of(lambda: (table,), config)


def _table(scene: Scene, config: Config, partials: Partials) -> NDArray[np.float64]:
    """The quantile table (quantile, band) of a scene, computed once."""
    identity = {**made_of(scene, config), "sample_pixels": config.normalize.sample_pixels}
    return partials.of("quantiles", identity, lambda: {"table": quantile_table(scene, config)})["table"]
