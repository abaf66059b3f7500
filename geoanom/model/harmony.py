"""Harmony across scenes: which bands are read of each, and whether their resolutions and values can be compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from geoanom.errors import ConfigError, SceneError
from geoanom.raster.regrid import at_resolution
from geoanom.raster.scene import open_scene
from geoanom.sources.bands import UnnamedBandsError, folded, is_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from geoanom.config import Config
    from geoanom.model.core import Model
    from geoanom.raster.scene import Band, Scene

SAME_SHARE = 0.1
"""Resolutions that differ by more than this share are different."""
NO_NUMBER = 0
"""Of a band that stood at different numbers in the training scenes, which were read by names."""


@dataclass(frozen=True, kw_only=True)
class Harmony:
    """Training scenes that can be learned from together."""

    scenes: tuple[Scene, ...]
    """In the order of their digests."""
    bands: tuple[Band, ...]
    resolution_m: float | None
    """Side of a pixel in metres; None where no scene has a place."""
    dtype: str
    """Type of the values of most scenes."""


def in_harmony(scenes: Sequence[Scene], config: Config) -> Harmony:
    """Training scenes with the same bands, comparable values and one resolution, whatever their order.

    Raises:
        SceneError: a scene does not go with the others; the message says why and what to do.
    """
    scenes = sorted(scenes, key=lambda scene: scene.digest)
    bands, dtype = common_bands(scenes, config), common_dtype(scenes, config)
    resampled, resolution_m = harmonized(scenes, config)
    ordered = tuple(sorted(resampled, key=lambda scene: scene.digest))
    return Harmony(scenes=ordered, bands=bands, resolution_m=resolution_m, dtype=dtype)


def open_for(uri: str | PathLike[str], model: Model, config: Config) -> Scene:
    """Open a scene with the bands of a model: those that the settings name, else by name, else, where the file has no names, by number.

    Raises:
        SceneError: it cannot be used as a scene.
        ConfigError: it lacks a band of the model.
    """
    names = names_of(model.bands)
    if config.bands is None and names is not None:
        try:
            return open_scene(uri, config.model_copy(update={"bands": names}))
        except UnnamedBandsError as error:
            if any(band.index == NO_NUMBER for band in model.bands):
                wrong = "does not name its bands, and those of the model stood at other numbers in other files"
                raise UnnamedBandsError(uri, wrong, "choose by number with --bands 1,2,3") from error
            scene = open_scene(uri, config.model_copy(update={"bands": model.chosen_bands}))
            note = f"does not name its bands: they are taken for {_listed(names)} by their place in the file"
            return replace(scene, warnings=(*scene.warnings, note))
        except ConfigError as error:
            raise SceneError(uri, f"{error.wrong}, and the model was fitted on {_listed(names)}", "fit a model for such scenes") from error
    return open_scene(uri, config.model_copy(update={"bands": config.bands or model.chosen_bands}))


def names_of(bands: Sequence[Band]) -> tuple[str, ...] | None:
    """The names of bands; None where they cannot be told apart by name."""
    names = tuple(band.name for band in bands)
    return names if all(map(is_name, names)) and len(set(map(folded, names))) == len(names) else None


def common_bands(scenes: Sequence[Scene], config: Config) -> tuple[Band, ...]:
    """What the bands of the training scenes are: by name where all that have names agree.

    Args:
        scenes: in a fixed order.
        config: bands that it asks for by number are the same by decree.

    Raises:
        SceneError: a scene has other bands than most.
    """
    names = [names_of(scene.bands) for scene in scenes]
    usual = _usual(scenes, names)
    for scene, theirs in zip(scenes, names, strict=True):
        _check_same_bands(scene, theirs, scenes[usual], names[usual], config)
    named = [scene.bands for scene, theirs in zip(scenes, names, strict=True) if theirs is not None]
    if len({tuple(folded(band.name) for band in bands) for bands in named}) > 1:
        return tuple(replace(band, name=f"band {band.index}") for band in scenes[0].bands)
    if len({tuple(band.index for band in scene.bands) for scene in scenes}) > 1:
        return tuple(replace(band, index=NO_NUMBER) for band in named[0])
    return named[0] if named else scenes[0].bands


def _usual(scenes: Sequence[Scene], names: Sequence[tuple[str, ...] | None]) -> int:
    """The first scene whose bands are those of most scenes."""
    kinds = [
        (tuple(band.index for band in scene.bands), scene.band_count) if theirs is None else tuple(map(folded, theirs))
        for scene, theirs in zip(scenes, names, strict=True)
    ]
    return kinds.index(Counter(kinds).most_common(1)[0][0])


def _check_same_bands(scene: Scene, theirs: tuple[str, ...] | None, first: Scene, ours: tuple[str, ...] | None, config: Config) -> None:
    if theirs is not None and ours is not None and not _by_number(config):
        if list(map(folded, theirs)) != list(map(folded, ours)):
            wrong = f"has the bands {_listed(theirs)}, {first.name} has {_listed(ours)}"
            raise SceneError(scene.uri, wrong, "choose common ones with --bands, by name or by number")
    elif [band.index for band in scene.bands] != [band.index for band in first.bands] or scene.band_count != first.band_count:
        wrong = f"has {len(scene.bands)} usable bands of {scene.band_count}, {first.name} has {len(first.bands)} of {first.band_count}"
        raise SceneError(scene.uri, wrong, "choose common ones with --bands")


def check_bands(scene: Scene, model: Model, config: Config) -> None:
    """Refuse a scene that was not opened with the bands of a model.

    Raises:
        SceneError: their names or their number differ.
    """
    theirs, ours = names_of(scene.bands), names_of(model.bands)
    if theirs is not None and ours is not None and not _by_number(config):
        if list(map(folded, theirs)) != list(map(folded, ours)):
            wrong = f"has the bands {_listed(theirs)}, the model was fitted on {_listed(ours)}"
            raise SceneError(scene.uri, wrong, "fit a model on bands that both have, or choose by number with --bands")
        return
    chosen = model.config.bands is not None
    if len(scene.bands) != len(model.bands) or (not chosen and scene.band_count != model.band_count):
        wrong = f"has {scene.band_count} bands, the model was fitted on {len(model.bands)} of {model.band_count}"
        raise SceneError(scene.uri, wrong, "fit a model on bands that both have, with --bands")


def common_dtype(scenes: Sequence[Scene], config: Config) -> str:
    """The type of the values of most training scenes.

    Raises:
        SceneError: the values of a scene cannot be compared with those of most others, and are not scaled scene by scene.
    """
    kinds = Counter(_kind_of(_dtype(scene)) for scene in scenes)
    kind = kinds.most_common(1)[0][0]
    usual = Counter(_dtype(scene) for scene in scenes if _kind_of(_dtype(scene)) == kind).most_common(1)[0][0]
    unlike = [scene for scene in scenes if _kind_of(_dtype(scene)) != kind]
    if unlike and config.normalize.per == "archive":
        wrong = f"holds {_dtype(unlike[0])} values, {kinds[kind]} of {len(scenes)} scenes {usual} or like it, and they are not scaled alike"
        raise SceneError(unlike[0].uri, wrong, "set normalize.per=scene, or fit them apart")
    return usual


def check_values(scene: Scene, model: Model) -> None:
    """Refuse a scene whose values cannot be compared with those that a model was fitted on.

    Raises:
        SceneError: 8 bits against wider integers, or integers against floats.
    """
    if model.config.normalize.per == "archive" and _kind_of(_dtype(scene)) != _kind_of(model.dtype):
        wrong = f"holds {_dtype(scene)} values, the model was fitted on {model.dtype}, and they are not scaled alike"
        raise SceneError(scene.uri, wrong, "fit another model with normalize.per=scene, which this one was not")


def harmonized(scenes: Sequence[Scene], config: Config) -> tuple[list[Scene], float | None]:
    """Training scenes at the median of their resolutions, of two the finer one, and that resolution in metres.

    Raises:
        SceneError: a scene has another resolution, and none may be resampled.
    """
    known = sorted(side for side in map(_resolution_m, scenes) if side is not None)
    resolution_m = known[(len(known) - 1) // 2] if known else None
    remedy = "set sources.resample=true or fit them apart"
    return [_at(scene, resolution_m, config, "the training scenes are", remedy) for scene in scenes], resolution_m


def matched(scene: Scene, model: Model, config: Config) -> Scene:
    """A scene as a model takes it: the scene itself, or the scene at the model's resolution.

    Raises:
        SceneError: its bands, its values or its resolution are not the model's; the message says what to do.
    """
    check_bands(scene, model, config)
    check_values(scene, model)
    return _at(scene, model.resolution_m, config, "the model was fitted", "score it with sources.resample=true or fit a model for it")


def _at(scene: Scene, resolution_m: float | None, config: Config, others: str, remedy: str) -> Scene:
    theirs = _resolution_m(scene)
    if theirs is None or resolution_m is None or abs(theirs - resolution_m) <= SAME_SHARE * resolution_m:
        return scene
    if not config.sources.resample:
        raise SceneError(scene.uri, f"is at {theirs:.3g} m a pixel, {others} at {resolution_m:.3g} m", remedy)
    resampled = at_resolution(scene, resolution_m, config.sources.resampling)
    return replace(resampled, warnings=(*resampled.warnings, f"resampled from {theirs:.3g} m to {resolution_m:.3g} m a pixel"))


def _resolution_m(scene: Scene) -> float | None:
    """Of a copy of its georeference, whose PROJ objects are not kept: they would take 50 kB in each of thousands of scenes."""
    return replace(scene.georef).resolution_m(scene.height, scene.width)


def _by_number(config: Config) -> bool:
    """Whether the settings ask for bands by number alone."""
    return bool(config.bands) and all(isinstance(band, int) for band in config.bands or ())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _dtype(scene: Scene) -> str:
    return scene.bands[0].dtype


def _kind_of(dtype: str) -> str:
    """Types of one kind hold values that can be compared."""
    kind = np.dtype(dtype)
    return "float" if kind.kind == "f" else "8 bits" if kind.itemsize == 1 else "integer"
