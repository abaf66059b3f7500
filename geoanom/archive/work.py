"""The work on one scene, wherever it is done, and what is told about it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from geoanom.config import Config, parse_config
from geoanom.errors import ConfigError, GeoanomError, InputError, ModelError, OutputError, SceneError
from geoanom.sources.checks import sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from geoanom.archive.ledger import State
    from geoanom.model import Model


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all scenes of a run have in common; small enough to travel to any worker."""

    model: str
    """Folder of the bundle, as the workers see it."""
    model_id: str
    settings: Mapping[str, Any]
    """The settings of the run, as a tree."""
    folder: str
    """Output folder, as the workers see it."""
    geoanom: str = field(default_factory=lambda: version("geoanom"))
    """Version that began the run, and stands in every layer."""

    def config(self) -> Config:
        """The settings."""
        return parse_config(self.settings)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One scene to score."""

    name: str
    uri: str
    layer: str
    """Path of its layer from the output folder."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a scene."""

    state: State
    tiles_scored: int = 0
    tiles_masked: int = 0
    anomalies: int = 0
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Path from the output folder to SHA-256."""
    seconds: float = 0.0
    error: GeoanomError | None = None

    @classmethod
    def of(cls, error: GeoanomError) -> Result:
        """The result of a scene that gave an error: refused for what it is, or failed for what happened around it."""
        return cls(state="refused" if isinstance(error, InputError | ConfigError) else "failed", error=error)

    @property
    def stops_run(self) -> bool:
        """True where every other scene would fail in the same way: a full disk, a model that cannot be used."""
        return isinstance(self.error, OutputError | ModelError)

    def kept(self) -> dict[str, Any]:
        """What the ledger keeps of it, beside state and error."""
        return {name: getattr(self, name) for name in ("tiles_scored", "tiles_masked", "anomalies", "outputs", "seconds")}


def code_of(error: GeoanomError) -> str:
    """One word for the kind of an error, for programs."""
    kinds = {SceneError: "scene", InputError: "input", ConfigError: "config", OutputError: "output"}
    return next((word for kind, word in kinds.items() if isinstance(error, kind)), "bug")


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that a worker has told, or that was seen of it."""

    name: str
    """The scene."""
    worker: str


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """A worker began with a scene."""


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """A worker is through with a scene."""

    result: Result


@dataclass(frozen=True, kw_only=True)
class Lost(Event):
    """A worker went down, or was taken down, while it had a scene."""

    code: str
    """crash, memory or timeout; start where it had not begun with the scene, which is then not to blame."""
    message: str


class Executor(Protocol):
    """Who works: processes of this machine, or a cluster."""

    @property
    def capacity(self) -> int:
        """How many scenes it wants at once."""

    def submit(self, task: Task) -> None:
        """Hand over a scene; never more than `capacity` at once."""

    def wait(self, timeout_s: float) -> Sequence[Event]:
        """What happened since the last call; waits up to `timeout_s` for something to happen."""

    def close(self) -> None:
        """Stop all work within a few seconds; what is not finished leaves nothing under a final name."""


def score_one(task: Task, job: Job, model: Model) -> Result:
    """Score one scene and write its outputs; whatever goes wrong becomes a result."""
    begun = time.monotonic()
    try:
        result = _score(task, job, model)
    except GeoanomError as error:
        result = Result.of(error)
    except MemoryError:
        result = Result.of(GeoanomError(task.uri, "out of memory", "lower runtime.threads, or choose fewer bands"))
    except Exception as error:  # noqa: BLE001 - a bug with one scene must not cost the others
        wrong = f"bug: {type(error).__name__}: {error}"
        result = Result.of(GeoanomError(task.uri, wrong, "score it alone with -vv and report it"))
    return replace(result, seconds=time.monotonic() - begun)


def _score(task: Task, job: Job, model: Model) -> Result:
    from geoanom import pipeline

    config, folder = job.config(), Path(job.folder)
    wanted = _outputs(task, config)
    paths = {kind: folder / name for kind, name in wanted.items()}
    for path in paths.values():
        _make_folder(path.parent)
    outcome = pipeline.score([task.uri], model, config, pipeline.Outputs(overwrite=True, **paths))
    summary = outcome.layer.scenes[0]
    return Result(
        state="partial" if any("damaged" in warning for warning in summary.warnings) else "done",
        tiles_scored=summary.tiles_scored,
        tiles_masked=summary.tiles_masked,
        anomalies=len(outcome.layer),
        outputs={name: sha256_of(folder / name) for name in wanted.values()},
    )


def _outputs(task: Task, config: Config) -> dict[str, str]:
    """Kind to path from the output folder."""
    stem = os.path.splitext(task.layer)[0]  # noqa: PTH122 - Path would lose nothing else, but eat a trailing dot
    inner = stem.removeprefix("layers/")
    extra = {"heatmap": f"heatmaps/{inner}.tif"} if config.archive.heatmaps else {}
    extra |= {"embeddings": f"embeddings/{inner}.parquet"} if config.archive.embeddings else {}
    return {"layer": task.layer, **extra}


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(path, f"cannot be made ({error.strerror})", "check the disk's space and permissions") from error
