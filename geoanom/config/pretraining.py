"""The settings of `geoanom pretrain`: the broad imagery that geoanom-base is learned on, and what is shown of it."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from geoanom.config.complaints import as_config_error
from geoanom.config.loading import read_yaml
from geoanom.config.section import Section

if TYPE_CHECKING:
    from pathlib import Path

SEE = "see configs/pretrain.yaml"


class Imagery(Section):
    """Rasters of one kind."""

    glob: str = Field(min_length=1, description="rasters, seen from the data folder")
    crops: int = Field(ge=1, description="squares drawn from each raster")
    rgb: tuple[int, int, int] = Field((1, 2, 3), description="1-based bands that look natural as red, green and blue")

    @field_validator("glob")
    @classmethod
    def _stays_inside(cls, glob: str) -> str:
        if PurePath(glob).is_absolute() or ".." in PurePath(glob).parts:
            raise ValueError("give a pattern below the data folder, such as broad/*.tif")
        return glob

    @field_validator("rgb")
    @classmethod
    def _bands_count_from_one(cls, rgb: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(rgb) < 1:
            raise ValueError("bands count from 1")
        return rgb


class BandMix(Section):
    """How likely each choice of three bands is."""

    natural: float = Field(0.5, ge=0.0, le=1.0, description="the bands of `rgb`")
    permuted: float = Field(0.4, ge=0.0, le=1.0, description="three different bands in any order")
    grey: float = Field(0.1, ge=0.0, le=1.0, description="one band three times")

    @model_validator(mode="after")
    def _shares_of_one(self) -> BandMix:
        if not math.isclose(self.natural + self.permuted + self.grey, 1.0):
            raise ValueError("natural, permuted and grey must add up to 1")
        return self


class Jitter(Section):
    """How two views of one square differ."""

    shift: float = Field(0.125, ge=0.0, le=0.5, description="largest shift, as a share of the square's side")
    light: float = Field(0.7, ge=0.0, le=1.0, description="how likely another gamma, gain and offset are")
    gamma: float = Field(0.25, ge=0.0, le=1.0, description="standard deviation of the exponent's logarithm")
    gain: float = Field(0.2, ge=0.0, le=1.0, description="standard deviation of the factor's logarithm")
    offset: float = Field(0.08, ge=0.0, le=1.0, description="standard deviation, as a share of the normalized range")


class Pretraining(Section):
    """All settings of a pretraining."""

    schema_version: Literal[1] = 1
    seed: int = Field(0, ge=0, lt=2**32)
    sources: tuple[Imagery, ...] = Field(min_length=1)
    crop_px: tuple[int, int] = Field((24, 300), description="smallest and largest side of a square; its logarithm is uniform")
    side_px: int = Field(64, ge=16, le=512, description="side that every view is resized to")
    zoom: float = Field(2.0, ge=0.25, le=8.0, description="scaling before the backbone")
    dim: int = Field(64, ge=4, le=256, description="axes that are kept")
    statistics_share: float = Field(0.5, ge=0.0, le=10.0, description="spread of contrast and roughness, as a share of the other axes'")
    mix: BandMix = BandMix()
    jitter: Jitter = Jitter()

    @field_validator("crop_px")
    @classmethod
    def _small_before_large(cls, crop_px: tuple[int, int]) -> tuple[int, int]:
        if not 8 <= crop_px[0] <= crop_px[1] <= 4096:
            raise ValueError("give the smallest side, at least 8, before the largest, at most 4096")
        return crop_px


def load_pretraining(path: Path) -> Pretraining:
    """Read the settings from a YAML file.

    Raises:
        ConfigError: a file, key or value that cannot be used.
    """
    try:
        return Pretraining.model_validate(read_yaml(path))
    except ValidationError as error:
        raise as_config_error(error, Pretraining, path, SEE) from error
