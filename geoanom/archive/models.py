"""The model in a worker: read once, checked against what the run asks for."""

from __future__ import annotations

import json
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
            model = load_model(Path(job.model), device)
            if model.model_id != job.model_id:
                raise ModelError(job.model, f"is {model.model_id}, the run began with {job.model_id}", "start the run again")
        except GeoanomError as error:
            return Result.of(error)
        _loaded.clear()
        _loaded[key] = model
    return _loaded[key]


def header_of(folder: Path) -> tuple[str, dict[str, object]]:
    """Name and settings of a bundle, without reading the rest of it.

    Raises:
        ModelError: it is not a bundle.
    """
    import hashlib

    try:
        content = (folder / "model.json").read_bytes()
        settings = json.loads(content)["config"]
    except FileNotFoundError as error:
        raise ModelError(folder, "is not a model folder", "make one with geoanom fit") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(folder, f"is not a readable model ({error})", "fit the model again") from error
    return hashlib.sha256(content).hexdigest()[:12], settings
