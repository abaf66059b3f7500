"""The settings of a run: typed, with defaults, and closed to unknown keys."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, JsonValue, field_validator, model_validator

from geoanom.config.reading import Archive, Change, Runtime, Sources
from geoanom.config.section import Section
from geoanom.registry import unknown


class Tiles(Section):
    """How a scene is cut."""

    size: int = Field(64, ge=1, le=2048, description="side of a tile in pixels")
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

    transform: Literal["linear", "log"] = Field("linear", description="log: of amplitudes or intensities; dB are left as they are")
    low_percentile: float = Field(1.0, ge=0.0, lt=50.0)
    high_percentile: float = Field(99.0, gt=50.0, le=100.0)
    sample_pixels: int = Field(1_000_000, ge=1000, description="pixels kept per band for the percentiles")
    per: Literal["archive", "scene"] = Field("archive", description="scene: each scene by its own percentiles, whatever its radiometry")


class Training(Section):
    """The one training loop."""

    epochs: int = Field(60, ge=1)
    batch_size: int = Field(128, ge=1)
    learning_rate: float = Field(2e-3, gt=0.0)
    weight_decay: float = Field(1e-3, ge=0.0)
    patience: int = Field(12, ge=1, description="epochs without a better held-out loss before stopping")
    holdout: float = Field(0.1, gt=0.0, lt=0.9, description="share of the tiles kept for early stopping")
    trim_fraction: float = Field(0.05, ge=0.0, lt=0.5, description="share of each batch with the largest loss that is left out")
    schedule: Literal["cosine", "constant", "step"] = Field("cosine", description="of the learning rate; step: a tenth per third")


HeadKind = Literal["auto", "base", "autoencoder", "denoising", "variational", "pca", "contrastive", "triplet", "supervised"]


class Head(Section):
    """What turns features into the embedding."""

    kind: HeadKind = Field("auto", description="how the embedding is learned; auto: base, which comes fitted, where it suits")
    hidden: tuple[int, ...] = (128, 64)
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="share of the hidden units that each training step leaves out")
    batch_norm: bool = Field(default=False, description="normalize hidden units over each training batch")
    noise: float = Field(0.1, ge=0.0, description="denoising: standard deviation of the noise on the network's input")
    beta: float = Field(1.0, ge=0.0, description="variational: weight of the divergence from the standard normal")
    whiten: bool = Field(default=False, description="pca: unit variance along every axis")
    temperature: float = Field(0.2, gt=0.0, description="contrastive, supervised: the lower, the more the nearest tiles count")
    margin: float = Field(0.2, gt=0.0, description="triplet: how much nearer a tile's other view must be than other tiles")
    labels: Path | None = Field(None, description="supervised: a CSV of labelled tiles: scene,row,col,label")
    train_on: str = Field("scene", description="'scene', or a folder of broad imagery")
    path: Path | None = Field(None, description="a fitted head file to reuse instead of training one")

    @field_validator("kind", mode="before")
    @classmethod
    def _known_kind(cls, given: Any) -> Any:
        if isinstance(given, str) and given not in get_args(HeadKind):
            raise ValueError(str(unknown("kind of head", given, get_args(HeadKind))))
        return given

    @model_validator(mode="after")
    def _labels_for_supervision(self) -> Head:
        if self.kind == "supervised" and self.labels is None and self.path is None:
            raise ValueError("kind supervised needs labels: the path of a CSV with the columns scene,row,col,label")
        if self.kind == "supervised" and self.train_on != "scene" and self.path is None:
            raise ValueError("kind supervised learns from the labels of the scenes: leave train_on at 'scene'")
        return self


class FineTune(Section):
    """How far the backbone's last blocks go on learning from the scenes' own tiles, without labels."""

    epochs: int = Field(0, ge=0, description="0 leaves the backbone as it comes")
    learning_rate: float = Field(1e-4, gt=0.0)
    weight_decay: float = Field(1e-4, ge=0.0)
    batch_size: int = Field(32, ge=2, description="tiles that are told apart at once")
    max_tiles: int = Field(2000, ge=2, description="tiles that are learned from, kept in memory")
    schedule: Literal["cosine", "constant", "step"] = Field("cosine", description="of the learning rate; step: a tenth per third")


class Embed(Section):
    """How a tile becomes an embedding."""

    backbone: str = "efficientnet_lite0"
    weights: str = Field("package", description="package, download, none, or the path of a state dict")
    dim: int = Field(16, ge=1, le=1024)
    zoom: float | None = Field(None, ge=0.25, le=8, description="scaling before the backbone; by the side of the tiles when null")
    batch_size: int = Field(1, ge=1, description="blocks of neighbouring tiles that go through the backbone at once")
    precision: Literal["fp32", "bf16"] = "fp32"
    fine_tune: FineTune = FineTune()
    head: Head = Head()
    training: Training = Training()


class Member(Section):
    """One detector of the ensemble."""

    name: str
    label: str | None = Field(None, pattern=r"^[A-Za-z0-9_]+$", description="what it is called in layers; its name when null")
    input: Literal["embedding", "features", "windows"] = Field(
        "embedding", description="its rows: the embedding, the standardized features, or the contrasts of small windows"
    )
    weight: float = Field(1.0, gt=0.0, le=100.0, description="how much its -log10 p counts")
    params: dict[str, JsonValue] = Field({}, description="of the detector")

    @property
    def title(self) -> str:
        """What it is called in layers."""
        return self.label or self.name


class Detect(Section):
    """Who votes."""

    members: tuple[Member, ...] = Field(
        (
            Member(name="rx", label="windows", input="windows", params={"trim": 0.05, "least": 0.03}),
            Member(name="knn", weight=2.5, params={"k": 10, "as_is": True}),
        ),
        min_length=1,
    )
    reconstruction: bool = Field(default=False, description="let the reconstruction error vote, too")

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the members, and of the reconstruction error where it votes."""
        return (*(member.weight for member in self.members), *([1.0] if self.reconstruction else []))

    @model_validator(mode="after")
    def _titles_differ(self) -> Detect:
        titles = ["reconstruction", *(member.title for member in self.members)]
        twice = next((title for title in titles if titles.count(title) > 1), None)
        if twice is not None:
            raise ValueError(f"two members are called {twice!r}: give one of them a label of its own")
        return self


class Calibrate(Section):
    """How raw scores become p-values."""

    tail_fraction: float = Field(0.4, gt=0.0, lt=0.5, description="the tail is measured from this share of the largest scores")
    trim_fraction: float = Field(0.2, ge=0.0, lt=0.5, description="to this one: larger scores may be anomalies and are only counted")

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


class Config(Section):
    """All settings of a run."""

    schema_version: Literal[1] = 1
    seed: int = Field(0, ge=0, lt=2**32)
    bands: tuple[int | str, ...] | None = Field(None, description="band numbers, from 1, or names; all but alpha when null")
    tiles: Tiles = Tiles()
    normalize: Normalize = Normalize()
    embed: Embed = Embed()
    detect: Detect = Detect()
    calibrate: Calibrate = Calibrate()
    threshold: Threshold = Threshold(fdr=0.05)
    fit: Fit = Fit()
    sources: Sources = Sources()
    archive: Archive = Archive()
    change: Change = Change()
    runtime: Runtime = Runtime()

    def frozen_part(self) -> dict[str, Any]:
        """What a model is made of: everything but how it is run, the threshold and what may be opened."""
        return self.model_dump(mode="json", exclude={"archive", "change", "runtime", "threshold", "sources"})

    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of the settings that can change a layer."""
        kept = self.model_dump(mode="json", exclude={"archive", "change", "runtime"})
        return hashlib.sha256(canonical_json(kept).encode()).hexdigest()[:12]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space: one text per value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
