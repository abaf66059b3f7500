"""The settings of a run, and where they come from."""

from geoanom.config.loading import ENV_PREFIX, dump_config, load_config, parse_config
from geoanom.config.sections import (
    Calibrate,
    Config,
    Detect,
    Embed,
    Fit,
    Head,
    Member,
    Normalize,
    Runtime,
    Section,
    Sources,
    Threshold,
    Tiles,
    Training,
    canonical_json,
)

__all__ = [
    "ENV_PREFIX",
    "Calibrate",
    "Config",
    "Detect",
    "Embed",
    "Fit",
    "Head",
    "Member",
    "Normalize",
    "Runtime",
    "Section",
    "Sources",
    "Threshold",
    "Tiles",
    "Training",
    "canonical_json",
    "dump_config",
    "load_config",
    "parse_config",
]
