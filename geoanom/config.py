"""The settings of a run: typed, closed to unknown keys, and read from YAML, the environment and the command line.

Later sources win: built-in defaults, the file, ``GEOANOM_*`` variables (``GEOANOM_TILES__SIZE=32``), ``--set key.path=value``.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from yaml.constructor import ConstructorError

from geoanom.errors import ConfigError
from geoanom.registry import unknown

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

ENV_PREFIX = "GEOANOM_"


class Section(BaseModel):
    """A frozen group of settings that knows no other keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Tiles(Section):
    """How a scene is cut."""

    size: int = Field(64, ge=8, le=2048, description="side of a tile in pixels")
    stride: int | None = Field(None, ge=1, description="step between tiles in pixels; half the size when null")
    min_valid_fraction: float = Field(0.9, ge=0.0, le=1.0, description="tiles with less valid area are not scored")

    @property
    def step(self) -> int:
        """The stride in pixels, with its default filled in."""
        return self.stride if self.stride is not None else max(1, self.size // 2)

    @model_validator(mode="after")
    def _stride_fits(self) -> Tiles:
        if self.step > self.size:
            raise ValueError(f"stride {self.stride} is larger than size {self.size}: pixels would be skipped")
        return self


class Normalize(Section):
    """Robust per-band scaling."""

    low_percentile: float = Field(1.0, ge=0.0, lt=50.0)
    high_percentile: float = Field(99.0, gt=50.0, le=100.0)
    sample_pixels: int = Field(1_000_000, ge=1000, description="pixels kept per band for the percentiles")


class Training(Section):
    """The one training loop."""

    epochs: int = Field(60, ge=1)
    batch_size: int = Field(128, ge=1)
    learning_rate: float = Field(2e-3, gt=0.0)
    weight_decay: float = Field(1e-3, ge=0.0)
    patience: int = Field(12, ge=1, description="epochs without a better held-out loss before stopping")
    holdout: float = Field(0.1, gt=0.0, lt=0.9, description="share of the tiles kept for early stopping")
    trim_fraction: float = Field(0.05, ge=0.0, lt=0.5, description="share of each batch with the largest loss that is left out")


class Head(Section):
    """The autoencoder that turns features into the embedding."""

    hidden: tuple[int, ...] = (128, 64)
    train_on: str = Field("scene", description="'scene', or a folder of broad imagery")
    path: Path | None = Field(None, description="a fitted head file to reuse instead of training one")


class Embed(Section):
    """How a tile becomes an embedding."""

    backbone: str = "efficientnet_lite0"
    weights: str = Field("package", description="package, download, none, or the path of a state dict")
    dim: int = Field(16, ge=1, le=1024)
    zoom: int = Field(2, ge=1, le=8, description="upsampling before the backbone, so that small things span its receptive field")
    batch_size: int = Field(1, ge=1, description="blocks of neighbouring tiles that go through the backbone at once")
    precision: Literal["fp32", "bf16"] = "fp32"
    head: Head = Head()
    training: Training = Training()


class Member(Section):
    """One detector of the ensemble."""

    name: str
    input: Literal["embedding", "features"] = Field("embedding", description="its rows: the embedding, or the standardized features")
    params: dict[str, JsonValue] = {}


class Detect(Section):
    """Who votes."""

    members: tuple[Member, ...] = Field(
        (Member(name="rx", input="features"), Member(name="knn", input="features", params={"k": 5, "whiten": True})), min_length=1
    )
    reconstruction: bool = Field(default=True, description="let the reconstruction error vote, too")

    @model_validator(mode="after")
    def _names_differ(self) -> Detect:
        names = [member.name for member in self.members]
        if len(set(names)) < len(names):
            raise ValueError("a detector is listed twice")
        return self


class Calibrate(Section):
    """How raw scores become p-values."""

    tail_fraction: float = Field(0.1, gt=0.0, lt=0.5, description="share of the scores that the tail is fitted to")
    trim_fraction: float = Field(0.05, ge=0.0, lt=0.5, description="share of the largest scores that the fit only counts")

    @model_validator(mode="after")
    def _tail_outlasts_trim(self) -> Calibrate:
        if self.trim_fraction >= self.tail_fraction:
            raise ValueError("trim_fraction must be smaller than tail_fraction")
        return self


class Threshold(Section):
    """Which tiles are called anomalous; exactly one rule."""

    fdr: float | None = Field(None, gt=0.0, lt=1.0, description="false discovery rate")
    contamination: float | None = Field(None, gt=0.0, lt=1.0, description="share of the tiles")
    top: int | None = Field(None, ge=1, description="number of places")

    @model_validator(mode="before")
    @classmethod
    def _default_rule(cls, given: Any) -> Any:
        silent = isinstance(given, dict) and given.keys() <= cls.model_fields.keys() and all(v is None for v in given.values())
        return {"fdr": 0.05} if silent else given

    @model_validator(mode="after")
    def _one_rule(self) -> Threshold:
        if sum(rule is not None for rule in (self.fdr, self.contamination, self.top)) != 1:
            raise ValueError("give one of fdr, contamination, top")
        return self


class Fit(Section):
    """How much of the scenes a model is fitted on."""

    max_tiles: int = Field(20_000, ge=32)
    min_tiles: int = Field(32, ge=8)
    fold_tiles: int = Field(8, ge=1, description="side, in tiles, of the checkerboard squares of the two halves")


class Sources(Section):
    """What may be opened, and how much damage is borne."""

    allow: tuple[Literal["vrt"], ...] = ()
    pixel_space: bool = Field(default=False, description="score scenes without a usable CRS in pixel coordinates")
    max_damaged_fraction: float = Field(0.1, ge=0.0, le=1.0)
    max_bands: int = Field(1000, ge=1)
    max_block_mb: int = Field(512, ge=1)
    max_strip_mb: int = Field(2048, ge=1)
    read_timeout_s: float = Field(120.0, gt=0.0)


class Runtime(Section):
    """What changes the speed and never the result."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    reader_threads: int = Field(2, ge=1, le=64)
    threads: int | None = Field(None, ge=1, le=256, description="computations side by side on the CPU; all cores when null")


class Config(Section):
    """All settings of a run."""

    schema_version: Literal[1] = 1
    seed: int = Field(0, ge=0, lt=2**32)
    bands: tuple[int, ...] | None = Field(None, description="1-based band numbers; all but alpha when null")
    tiles: Tiles = Tiles()
    normalize: Normalize = Normalize()
    embed: Embed = Embed()
    detect: Detect = Detect()
    calibrate: Calibrate = Calibrate()
    threshold: Threshold = Threshold(fdr=0.05)
    fit: Fit = Fit()
    sources: Sources = Sources()
    runtime: Runtime = Runtime()

    def frozen_part(self) -> dict[str, Any]:
        """What a model is made of: everything but the runtime, the threshold and the permissions to open."""
        return self.model_dump(mode="json", exclude={"runtime", "threshold", "sources"})

    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of the settings that can change a layer."""
        kept = self.model_dump(mode="json", exclude={"runtime"})
        return hashlib.sha256(canonical_json(kept).encode()).hexdigest()[:12]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space: one text per value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def load_config(path: Path | None = None, sets: Iterable[str] = (), environ: Mapping[str, str] | None = None) -> Config:
    """Read the settings from all their sources.

    Args:
        path: a YAML file, or None for the defaults.
        sets: ``key.path=value`` texts, the value in YAML.
        environ: the environment; the process's own when None.

    Raises:
        ConfigError: a file, key or value that cannot be used.
    """
    tree = _read_yaml(path) if path else {}
    for name, text in sorted((os.environ if environ is None else environ).items()):
        keys = name.removeprefix(ENV_PREFIX).lower().split("__")
        if name.startswith(ENV_PREFIX) and (len(keys) > 1 or keys[0] in Config.model_fields):  # others are no settings, such as secrets
            _place(tree, keys, text, name)
    for item in sets:
        key, equals, text = item.partition("=")
        if not equals:
            raise ConfigError(item, "not a setting", "write --set key.path=value")
        _place(tree, key.strip().split("."), text, item)
    return parse_config(tree, str(path or "config"))


def parse_config(tree: Mapping[str, Any], subject: str = "config") -> Config:
    """Check a tree of settings; `subject` is named in the error."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise _as_config_error(error, subject) from error


def dump_config(config: Config) -> str:
    """The settings as YAML that `load_config` reads back to an equal value."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses what YAML passes over in silence: a key given twice, and a key that is no text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - YAML's
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise ConstructorError(
                    None, None, f"the key {key_node.value!r} means {key!r} in YAML, put it in quotes", key_node.start_mark
                )
            if key in seen:
                raise ConstructorError(None, None, f"the key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _load_yaml(text: str) -> Any:
    return yaml.load(text, _Loader)  # noqa: S506 - it is a safe loader


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = _load_yaml(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"cannot be read ({error})", "name a readable YAML file") from error
    except yaml.YAMLError as error:
        raise ConfigError(path, f"cannot be read as YAML ({error})", "mend the file") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(path, "is not a mapping of settings", "see configs/default.yaml")
    return tree


def _place(tree: dict[str, Any], keys: list[str], text: str, subject: str) -> None:
    """Put a YAML value at a path of keys; a threshold rule displaces the rule that stood there."""
    try:
        value = _load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(subject, f"the value is not YAML ({error})", "quote it") from error
    node = tree
    for key in keys[:-1]:
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise ConfigError(subject, f"{key!r} is not a group of settings", "see configs/default.yaml")
    if keys[:-1] == ["threshold"] and value is not None:
        node.clear()
    node[keys[-1]] = value


def _as_config_error(error: ValidationError, subject: str) -> ConfigError:
    """One line for the first complaint, with the nearest known key when a key is unknown."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # a misspelt key explains one that is missing
    keys = [str(part) for part in first["loc"]]
    where = ".".join(keys)
    if first["type"] == "extra_forbidden":
        return ConfigError(subject, str(unknown("setting", where, _siblings(keys))), "")
    return ConfigError(subject, f"{where or 'settings'}: {first['msg'].removeprefix('Value error, ')}", "see configs/default.yaml")


def _siblings(keys: list[str]) -> list[str]:
    """Full paths of the settings that stand beside an unknown one."""
    model: Any = Config
    for key in keys[:-1]:
        annotation = model.model_fields[key].annotation if key in model.model_fields else None
        model = annotation if isinstance(annotation, type) and issubclass(annotation, Section) else Member
    return [".".join([*keys[:-1], name]) for name in model.model_fields]
