"""The bundle: a folder of plain JSON and safetensors, every file under a digest, with golden tiles that prove it still works."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy

from geoanom.config import Config, Embed, parse_config
from geoanom.detect.calibrate import Calibrator
from geoanom.detect.ensemble import Ensemble, fit_jury
from geoanom.embed.backbones import build_backbone
from geoanom.embed.device import pick_device
from geoanom.embed.embedder import Embedder
from geoanom.embed.heads import backbone_bytes, head_bytes, load_backbone, load_heads
from geoanom.embed.threads import one_thread
from geoanom.errors import ConfigError, ModelError
from geoanom.layer.atomic import atomic_folder
from geoanom.model.core import BandStatistics, Golden, Model, Reference, TrainingScene, window_geometry
from geoanom.model.partials import discard, partial_folder
from geoanom.model.tensors import golden_block, golden_tensors
from geoanom.raster.normalize import Normalizer
from geoanom.raster.scene import Band

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SCHEMA_VERSION = 3
REFERENCE_COLUMNS = ("halves", "scene", "tile_rows", "tile_cols", "p_value")
LIBRARIES = ("geoanom", "numpy", "pyod", "scikit-learn", "scipy", "timm", "torch", "torchvision")
GOLDEN_TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
"""Largest relative difference of a golden score between machines."""


def with_model_id(model: Model) -> Model:
    """The model under the name that its content gives it."""
    return replace(model, model_id=_model_id(_files(model)["model.json"]))


def save_model(model: Model, folder: Path) -> None:
    """Write the bundle; an existing folder is replaced, and the partial results of its fit are removed.

    Raises:
        OutputError: it could not be written.
    """
    with atomic_folder(folder) as temporary:
        for name, content in _files(model).items():
            (temporary / name).write_bytes(content)
    discard(partial_folder(folder))


@one_thread()
def load_model(folder: Path, device: str = "auto") -> Model:
    """Read a bundle, check its digests, rebuild the model and let it score its golden tiles.

    Args:
        folder: the bundle.
        device: auto, cpu or cuda.

    Raises:
        ModelError: it is not a bundle, was changed, is of a newer schema, or no longer computes the same scores.
    """
    content, tree = _read_files(folder)
    config = _config_of(tree, folder)
    tensors = safetensors.numpy.load(content["reference.safetensors"])
    reference = _reference(tensors)
    model = Model(
        model_id=_model_id(content["model.json"]),
        config=config,
        bands=tuple(Band(**band) for band in tree["bands"]),
        band_count=tree["band_count"],
        resolution_m=tree["resolution_m"],
        dtype=tree["dtype"],
        fold_tiles=tree["fold_tiles"],
        embedder=_embedder(content, tree, folder, config, device),
        reference=reference,
        jury=fit_jury(config.detect.members, reference.rows, reference.halves, config.seed),
        ensemble=_ensemble(tree["calibration"], tensors, config),
        band_statistics=BandStatistics(center=tensors["band_center"], spread=tensors["band_spread"]),
        scenes=tuple(TrainingScene(**scene) for scene in tree["scenes"]),
        golden=Golden(block=golden_block(tensors, config.tiles.size), raw=np.array(tree["golden_scores"], np.float64)),
    )
    _check_golden(model, folder)
    return model


def _files(model: Model) -> dict[str, bytes]:
    """Name to content of every file of the bundle; model.json holds the digests of the others."""
    files = {
        "weights.safetensors": backbone_bytes(model.embedder.backbone),
        "head.safetensors": head_bytes(model.embedder.heads, model.embedder.backbone, model.config.embed),
        "reference.safetensors": safetensors.numpy.save(_tensors(model)),
    }
    tree = {
        "schema_version": SCHEMA_VERSION,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "config": model.config.frozen_part(),
        "bands": [asdict(band) for band in model.bands],
        "band_count": model.band_count,
        "resolution_m": model.resolution_m,
        "dtype": model.dtype,
        "fold_tiles": model.fold_tiles,
        "normalization": asdict(model.embedder.normalizer),
        "calibration": {
            "members": [_tail(c) for c in model.ensemble.members],
            "joint": _tail(model.ensemble.joint),
        },
        "scenes": [asdict(scene) for scene in model.scenes],
        "golden_scores": model.golden.raw.tolist(),
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    text = json.dumps(tree, indent=1, sort_keys=True, allow_nan=False) + "\n"
    return {"model.json": text.encode(), **files}


def _tensors(model: Model) -> dict[str, NDArray[Any]]:
    return {
        **{f"rows_{name}": np.ascontiguousarray(table) for name, table in model.reference.rows.items()},
        **{name: np.ascontiguousarray(getattr(model.reference, name)) for name in REFERENCE_COLUMNS},
        "band_center": model.band_statistics.center,
        "band_spread": model.band_statistics.spread,
        **golden_tensors(model.golden.block),
        "joint": model.ensemble.joint.body,
        **{f"member_{i}": calibrator.body for i, calibrator in enumerate(model.ensemble.members)},
    }


def _reference(tensors: dict[str, NDArray[Any]]) -> Reference:
    rows = {name.removeprefix("rows_"): table for name, table in tensors.items() if name.startswith("rows_")}
    return Reference(rows=rows, **{name: tensors[name] for name in REFERENCE_COLUMNS})


def _tail(calibrator: Calibrator) -> dict[str, float]:
    return {"start": calibrator.start, "scale": calibrator.scale, "shape": calibrator.shape}


def _ensemble(tree: dict[str, Any], tensors: dict[str, NDArray[Any]], config: Config) -> Ensemble:
    members = tuple(Calibrator(body=tensors[f"member_{i}"], **tail) for i, tail in enumerate(tree["members"]))
    return Ensemble(members=members, weights=np.array(config.detect.weights), joint=Calibrator(body=tensors["joint"], **tree["joint"]))


def _model_id(model_json: bytes) -> str:
    return hashlib.sha256(model_json).hexdigest()[:12]


def _read_files(folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Contents by name, and the tree of model.json, after the digests have been checked."""
    if not folder.is_dir():
        raise ModelError(folder, "is not a model folder", "make one with geoanom fit")
    try:
        content = {"model.json": (folder / "model.json").read_bytes()}
        tree = json.loads(content["model.json"])
        _check_schema(tree, folder)
        for name, digest in tree["sha256"].items():
            if name not in ("weights.safetensors", "head.safetensors", "reference.safetensors"):
                raise ModelError(folder, f"names an unknown file {name!r}", "fit the model again")
            content[name] = (folder / name).read_bytes()
            if hashlib.sha256(content[name]).hexdigest() != digest:
                raise ModelError(folder / name, "was changed since the model was fitted", "restore it or fit the model again")
    except FileNotFoundError as error:
        raise ModelError(error.filename or folder, "is missing from the model", "restore it or fit the model again") from error
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(folder, f"is not a readable model ({error})", "fit the model again") from error
    return content, tree


def _check_schema(tree: Any, folder: Path) -> None:
    found = tree.get("schema_version") if isinstance(tree, dict) else None
    if not isinstance(found, int) or found < 1:
        raise ModelError(folder, "has a model.json that does not say its schema", "fit the model again")
    if found > SCHEMA_VERSION:
        raise ModelError(folder, f"has schema {found}, newer than the {SCHEMA_VERSION} that this geoanom reads", "upgrade geoanom")
    if found < SCHEMA_VERSION:
        raise ModelError(folder, f"has schema {found}, older than the {SCHEMA_VERSION} that this geoanom reads", "fit the model again")


def _config_of(tree: dict[str, Any], folder: Path) -> Config:
    try:
        return parse_config(tree["config"], str(folder))
    except ConfigError as error:
        raise ModelError(folder, error.wrong, "use the geoanom that made it") from error


def _embedder(content: dict[str, bytes], tree: dict[str, Any], folder: Path, config: Config, device: str) -> Embedder:
    bare: Embed = config.embed.model_copy(update={"weights": "none"})
    backbone = build_backbone(bare, len(tree["bands"]), config.tiles.size)
    load_backbone(backbone, content["weights.safetensors"])
    heads = load_heads(folder / "head.safetensors", backbone, config.embed)
    place = pick_device(device)
    return Embedder(
        normalizer=_normalizer(tree["normalization"]),
        backbone=backbone.to(place),
        heads=tuple(head.to(place) for head in heads),
        settings=config.embed,
        device=place,
        geometry=window_geometry(config),
    )


def _normalizer(tree: dict[str, Any]) -> Normalizer:
    return Normalizer(low=tuple(tree["low"]), high=tuple(tree["high"]), log=tree.get("log", False))


def _check_golden(model: Model, folder: Path) -> None:
    block = model.golden.block
    raw = model.raw_scores(model.encode([block]), model.halves(block.rows, block.cols))
    tolerance = GOLDEN_TOLERANCE[model.config.embed.precision]
    if raw.shape != model.golden.raw.shape or not np.allclose(raw, model.golden.raw, rtol=tolerance, atol=tolerance):
        raise ModelError(folder, "no longer gives its golden tiles their scores", "use the library versions in its model.json")
