"""The model in a worker: read once, checked against what the run asks for."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from geoanom.archive.work import Result
from geoanom.errors import GeoanomError, ModelError

if TYPE_CHECKING:
    from geoanom.archive.work import Job
    from geoanom.model import Model

_loaded: dict[tuple[str, str, str], Model] = {}


def cached_model(job: Job) -> Model | Result:
    """The model of a job, or the result that stops the run where it cannot be used."""
    device = job.config().runtime.device
    key = (job.model, job.model_id, device)
    if key not in _loaded:
        from geoanom.model.bundle import load_model

        try:
            _check_version(job)
            model = load_model(Path(job.model), device)
            _check_name(model, job)
        except ModelError as error:
            return Result.of(error)
        except GeoanomError as error:  # no device for it, say: the same for all scenes, and the fault of none
            return Result.of(ModelError(error.subject, error.wrong, error.remedy))
        _loaded.clear()
        _loaded[key] = model
    return _loaded[key]


def _check_name(model: Model, job: Job) -> None:
    if model.model_id != job.model_id:
        raise ModelError(job.model, f"is {model.model_id}, the run began with {job.model_id}", "start the run again")


def _check_version(job: Job) -> None:
    if version("geoanom") != job.geoanom:
        wrong = f"is used by geoanom {job.geoanom}, and a worker has geoanom {version('geoanom')}"
        raise ModelError(job.model, wrong, "install the same geoanom on all workers")


def header_of(folder: Path) -> tuple[str, dict[str, object]]:
    """Name and settings of a bundle, without reading the rest of it.

    Raises:
        ModelError: it is not a bundle.
    """
    import hashlib

    try:
        content = (folder / "model.json").read_bytes()
        settings = json.loads(content)["config"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(folder, "is not a model folder", "make one with geoanom fit") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(folder, f"is not a readable model ({error})", "fit the model again") from error
    return hashlib.sha256(content).hexdigest()[:12], settings
