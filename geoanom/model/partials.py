"""Partial results of a fit, kept scene by scene, so that a fit that was interrupted goes on where it stopped.

A file's name is a digest of all that its content was made of: where the name is found the content is right, whatever
happened since, and files are written under their names only when they are complete.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from geoanom.config import canonical_json
from geoanom.errors import OutputError
from geoanom.layer.atomic import atomic_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.raster.scene import Scene

MADE_WITH = ("geoanom", "numpy", "rasterio", "torch")
"""Libraries of which another version may compute other numbers."""
Tensors = dict[str, "NDArray[Any]"]
OURS = re.compile(r"\.?(quantiles|sample)-[0-9a-f]{32}\.safetensors(\..*)?")
"""Names of partial results, and of the temporary folders that a killed process leaves."""


@dataclass(frozen=True)
class Partials:
    """A folder of partial results."""

    folder: Path

    def of(self, kind: str, made_of: Mapping[str, Any], compute: Callable[[], Tensors]) -> Tensors:
        """The arrays by name that were computed before from the same things, or that are computed now.

        Args:
            kind: quantiles or sample.
            made_of: all that the result depends on, as JSON.
            compute: is called where the result is not here, or its file cannot be read.

        Raises:
            OutputError: the result could not be written.
        """
        path = self.folder / f"{kind}-{hashlib.sha256(canonical_json(made_of).encode()).hexdigest()[:32]}.safetensors"
        found = _read(path)
        if found is None:
            found = compute()
            self._write(path, found)
        return found

    def _write(self, path: Path, tensors: Tensors) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(self.folder, f"cannot be a folder of partial results ({error.strerror})", "choose another output") from error
        with atomic_file(path) as temporary:
            safetensors.numpy.save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, temporary)


def made_of(scene: Scene, config: Config) -> dict[str, Any]:
    """What the pixels that are read of a scene depend on, as JSON."""
    return {
        "versions": _versions(),
        "digest": scene.digest,
        "shape": [scene.height, scene.width],
        "transform": list(scene.georef.transform[:6]),
        "bands": [asdict(band) for band in scene.bands],
        "fill": scene.fill,
        "sources": config.sources.model_dump(mode="json"),
        "seed": config.seed,
    }


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in MADE_WITH}


def partial_folder(model: Path) -> Path:
    """Where the partial results of a fit stand until its model is saved in a folder."""
    return model.with_name(f"{model.name}.partial")


def discard(folder: Path) -> None:
    """Remove the partial results in a folder, and the folder if nothing else is in it."""
    if not folder.is_dir() or folder.is_symlink():
        return
    for path in folder.iterdir():
        if not OURS.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


@contextmanager
def kept_or_passing(resume: Path | None) -> Iterator[Partials]:
    """The folder to resume from, or one that vanishes at the end."""
    if resume is not None:
        yield Partials(resume)
        return
    with tempfile.TemporaryDirectory(prefix="geoanom-fit-") as folder:
        yield Partials(Path(folder))


def _read(path: Path) -> Tensors | None:
    """The arrays of a partial result; None where there is none, or none that can be read."""
    try:
        tensors: Tensors = safetensors.numpy.load_file(path)
    except (OSError, ValueError, SafetensorError):
        return None
    return tensors
