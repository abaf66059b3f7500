"""The settings of a run, and where they come from."""

from geoanom.config.loading import ENV_PREFIX, dump_config, load_config, parse_config
from geoanom.config.reading import Archive, Change, Quality, Runtime, Sources, Stac
from geoanom.config.section import Section
from geoanom.config.sections import (
    Calibrate,
    Config,
    Detect,
    Embed,
    Fit,
    Head,
    Member,
    Normalize,
    Threshold,
    Tiles,
    Training,
    canonical_json,
)

__all__ = [
    "ENV_PREFIX",
    "Archive",
    "Calibrate",
    "Change",
    "Config",
    "Detect",
    "Embed",
    "Fit",
    "Head",
    "Member",
    "Normalize",
    "Quality",
    "Runtime",
    "Section",
    "Sources",
    "Stac",
    "Threshold",
    "Tiles",
    "Training",
    "canonical_json",
    "dump_config",
    "load_config",
    "parse_config",
]
