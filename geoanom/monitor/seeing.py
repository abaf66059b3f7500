"""From new scenes to looks: what has to be known for that is loaded when the first new scene is there, and not before."""

from __future__ import annotations

import json
import re
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from geoanom.errors import ConfigError, InputError, SceneError
from geoanom.monitor.intake import refuse_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from geoanom.config import Config
    from geoanom.model import Model
    from geoanom.monitor.intake import Candidate
    from geoanom.monitor.settings import Monitor
    from geoanom.monitor.store import Store
    from geoanom.monitor.values import Look
    from geoanom.monitor.view import View
    from geoanom.raster.scene import Scene


def reading_config(monitor: Monitor) -> Config:
    """How a monitor reads scenes; permits ``.vrt`` where the settings do.

    Raises:
        ConfigError: settings of the fit, or of the environment, that cannot be used.
    """
    from geoanom.config import load_config

    config = load_config(monitor.config).model_copy(update={"sources": monitor.reading})
    if "vrt" in config.sources.allow:
        from geoanom.raster.environ import lock_down

        lock_down(allow_vrt=True)
    return config


def model_folder(monitor: Monitor, home: Path) -> Path:
    """Where the model is: the one that is named, or the one that is fitted, beside the store or else in the settings' folder."""
    if monitor.model is not None:
        return monitor.model
    folder = home if re.match("postgres", monitor.store) else Path(monitor.store.removeprefix("sqlite:///")).parent
    return folder / f"{monitor.name}.model"


class Eye:
    """Looks at scenes, all in the same way."""

    def __init__(self, store: Store, monitor: Monitor, config: Config, home: Path) -> None:
        """For a monitor whose fitted model is kept in `home` if it has no better place."""
        self._store, self._monitor, self._config = store, monitor, config
        self._folder = model_folder(monitor, home)

    @property
    def lacks_model(self) -> bool:
        """Is a model to be fitted first?"""
        return self._monitor.model is None and not self._folder.exists()

    @cached_property
    def model(self) -> Model:
        """The frozen model.

        Raises:
            ModelError: it cannot be used.
            ConfigError: it is not the one that this monitor began with.
        """
        from geoanom.model.bundle import load_model

        model = load_model(self._folder, self._config.runtime.device)
        known = self._store.facts().get("model_id")
        if known not in (None, model.model_id):
            remedy = "put the first model back, or name a new store, which learns every place again from the scenes that are there"
            raise ConfigError("monitor.model", f"{self._folder} is {model.model_id}, and the store's looks are by {known}", remedy)
        if known is None:
            fitted = [scene.digest for scene in model.scenes] if self._monitor.model is None else []
            self._store.put_facts(model_id=model.model_id, fitted=json.dumps(fitted))
        return model

    def fit(self, uris: Sequence[str]) -> None:
        """Fit and keep the model; a fit that was interrupted goes on."""
        from geoanom.model.bundle import save_model
        from geoanom.model.partials import partial_folder
        from geoanom.pipeline import fit

        save_model(fit(uris, self._config, partial_folder(self._folder)), self._folder)

    def open(self, uri: str) -> Scene:
        """A scene with the bands of the model, or of the settings while there is none.

        Raises:
            SceneError: it cannot be used.
        """
        if self.lacks_model:
            from geoanom.raster.scene import open_scene

            return open_scene(uri, self._config)
        from geoanom.model.harmony import open_for

        return open_for(uri, self.model, self._config.model_copy(update={"bands": None}))

    def look(self, scene: Scene, candidate: Candidate) -> Look:
        """Look at a scene.

        Raises:
            SceneError: it cannot be used.
        """
        from geoanom.monitor.observing import observe

        with tempfile.TemporaryDirectory(prefix="geoanom-") as workdir:
            return observe(scene, self._view(scene), self.model, self._config, Path(workdir), path=candidate.entry.name)

    def _view(self, scene: Scene) -> View:
        """How the monitor sees all scenes: as its first one asked for."""
        from geoanom.monitor.view import View, first_view

        known = self._store.facts().get("view")
        if known is not None:
            return View.from_json(known)
        made = first_view(scene, self._config, self._monitor.rules.cell_px)
        self._store.put_facts(view=made.to_json())
        return made


def usable(
    candidates: Sequence[Candidate], eye: Eye, wanted: int, refuse: Callable[[Candidate, InputError], None], now: float
) -> list[Scene]:
    """The first scenes that a model can be fitted on, each content once; the others are refused."""
    found: dict[str, Scene] = {}
    for candidate in candidates:
        if len(found) < wanted:
            try:
                scene = opened(candidate, eye, now)
            except InputError as error:
                refuse(candidate, error)
            else:
                found.setdefault(scene.digest, scene)
    return list(found.values())


def opened(candidate: Candidate, eye: Eye, now: float) -> Scene:
    """A candidate's scene, which tells when it was taken.

    Raises:
        InputError: it cannot be used.
        AheadError: it was taken after now (seconds since 1970).
    """
    if candidate.entry.refusal is not None:
        raise candidate.entry.refusal
    try:
        scene = eye.open(candidate.entry.uri)
    except ConfigError as error:
        raise SceneError(candidate.entry.uri, error.wrong, error.remedy) from error
    from geoanom.monitor.observing import moment_of

    refuse_ahead(scene.uri, moment_of(scene), now)
    return scene
