"""Settings of what is read, and how a run is carried out; none of them makes part of a model."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from geoanom.config.section import Section


class Quality(Section):
    """A raster beside each scene that says which of its pixels are usable."""

    path: str | None = Field(None, description="the raster, from the scene's folder; {stem} is the scene's name without suffix")
    suffix: str | None = Field(None, description="what stands in place of the scene's suffix in the raster's name, such as _qa.tif")
    band: int = Field(1, ge=1)
    reject: tuple[int, ...] = Field((), description="values that are not usable")
    bits: tuple[Annotated[int, Field(ge=0, le=63)], ...] = Field((), description="bits, counted from 0, of which none may be set")

    @model_validator(mode="after")
    def _says_where_and_what(self) -> Quality:
        if (self.path is None) == (self.suffix is None):
            raise ValueError("give one of path, suffix")
        if set(re.findall(r"\{.*?\}", self.path or "")) - {"{stem}"}:
            raise ValueError("path knows {stem} and no other placeholder")
        if not self.reject and not self.bits:
            raise ValueError("give the values to reject, or bits")
        return self


class Stac(Section):
    """What is taken of SpatioTemporal Asset Catalogs."""

    assets: tuple[str, ...] | None = Field(None, description="keys or common names of the assets to stack; those of role data when null")
    collections: tuple[str, ...] | None = Field(None, description="of an API search; all when null")
    bbox: tuple[float, float, float, float] | None = Field(None, description="west, south, east, north in degrees")
    datetime: str | None = Field(None, description="a moment or an interval such as 2024-01-01/2024-06-30")
    max_cloud_percent: float | None = Field(None, ge=0.0, le=100.0)
    max_items: int = Field(10_000, ge=1)
    timeout_s: float = Field(60.0, gt=0.0)

    @field_validator("datetime", mode="before")
    @classmethod
    def _as_text(cls, given: Any) -> Any:
        return given.isoformat() if isinstance(given, dt.date) else given  # what YAML takes for a date


class Sources(Section):
    """What may be opened, what of it is used, and how much damage is borne."""

    allow: tuple[Literal["vrt", "remote"], ...] = ()
    pixel_space: bool = Field(default=False, description="score scenes without a usable CRS in pixel coordinates")
    qa: Quality | None = Field(None, description="a quality raster beside each scene")
    scl_reject: tuple[int, ...] = Field((0, 1, 3, 8, 9, 10), description="Sentinel-2: classes of the scene classification that are masked")
    qa_pixel_bits: tuple[int, ...] = Field((0, 1, 2, 3, 4), description="Landsat: bits of QA_PIXEL that mask a pixel")
    stac: Stac = Stac()
    resample: bool = Field(default=False, description="bring scenes of another resolution to that of the model")
    resampling: Literal["nearest", "bilinear", "cubic", "average"] = Field(
        "bilinear", description="how pixels of another grid are computed"
    )
    max_damaged_fraction: float = Field(0.1, ge=0.0, le=1.0)
    max_bands: int = Field(1000, ge=1)
    max_block_mb: int = Field(512, ge=1)
    max_strip_mb: int = Field(2048, ge=1)
    read_timeout_s: float = Field(120.0, gt=0.0)


class Change(Section):
    """How two dates of a place are compared."""

    cell_px: Literal[2, 4, 8, 16, 32, 64] = Field(8, description="side of the cells that are called, in pixels")
    scales_px: tuple[Annotated[float, Field(gt=0.0, le=8.0)], ...] = Field(
        (1.0, 2.0, 3.0), min_length=1, description="widths of the Gaussians that differences are smoothed with"
    )
    resampling: Literal["bilinear", "cubic"] = Field("cubic", description="how the later date comes to the grid of the earlier one")
    max_shift_px: float = Field(8.0, ge=0.0, le=64.0, description="largest shift between the dates that is looked for")
    spectral: float = Field(1.0, ge=0.0, description="weight of the length of the difference")
    irmad: float = Field(1.0, ge=0.0, description="weight of the multivariate alteration")
    structure: float = Field(1.0, ge=0.0, description="weight of the network's maps")
    prediction: float = Field(0.25, ge=0.0, description="weight of what one date cannot tell of the other")


class Archive(Section):
    """How an archive is worked through."""

    workers: int = Field(1, ge=1, le=1024, description="processes on this machine")
    max_attempts: int = Field(3, ge=1, description="workers a scene may take down before it is quarantined")
    scene_timeout_s: float = Field(3600.0, gt=0.0, description="longest time for one scene")
    memory_mb: int = Field(6144, ge=256, description="largest resident memory of a worker")
    heatmaps: bool = Field(default=False, description="also write the scores of each scene as a COG")
    embeddings: bool = Field(default=False, description="also write the embeddings of each scene as GeoParquet")


class Runtime(Section):
    """What changes the speed and never the result."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    reader_threads: int = Field(2, ge=1, le=64)
    threads: int | None = Field(None, ge=1, le=256, description="computations side by side on the CPU; all cores when null")
