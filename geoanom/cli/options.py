"""Options that several commands share, and how they become settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from geoanom.config import Config

FILE = click.Path(path_type=Path)

SETTINGS = {
    "tile_size": "tiles.size",
    "stride": "tiles.stride",
    "bands": "bands",
    "device": "runtime.device",
    "seed": "seed",
    "top": "threshold.top",
    "fdr": "threshold.fdr",
    "contamination": "threshold.contamination",
    "pixel_space": "sources.pixel_space",
}
"""Option to the setting that it is short for."""

OF_THE_MODEL = frozenset({"seed", "tiles", "normalize", "embed", "detect", "calibrate", "fit"})
"""Groups of settings that a frozen model brings with it."""

CONFIGURE = (
    click.option("--config", "config_path", type=FILE, help="Settings in YAML."),
    click.option("--set", "sets", multiple=True, metavar="KEY.PATH=VALUE", help="Change one setting; may be repeated."),
)
CUT = (
    click.option("--tile-size", type=int, metavar="N", help="Side of a tile in pixels."),
    click.option("--stride", type=int, metavar="N", help="Step between tiles in pixels; half the size by default."),
    click.option("--seed", type=int, metavar="N", help="Seed of everything random."),
)
READ = (
    click.option("--bands", metavar="1,2,3", help="Bands to use, by number or name; all but alpha by default."),
    click.option("--pixel-space", is_flag=True, default=None, help="Score scenes without a usable CRS in pixel coordinates."),
)
RUN = (
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where to compute."),
    click.option("-v", "--verbose", count=True, expose_value=False, help="Say more; twice for tracebacks."),
)
CALL = (
    click.option("--fdr", type=float, metavar="Q", help="Call tiles at this false discovery rate (default 0.05)."),
    click.option("--contamination", type=float, metavar="C", help="Call this share of the tiles."),
    click.option("--top", type=int, metavar="K", help="Call the K most unusual places."),
)
WRITE = (
    click.option("--heatmap", type=FILE, metavar="TIF", help="Also write the scores as a COG."),
    click.option("--embeddings", type=FILE, metavar="PARQUET", help="Also write the embeddings as GeoParquet."),
    click.option("--quicklook", type=FILE, metavar="PNG", help="Also draw the anomalies on the scene."),
    click.option("--report", type=FILE, metavar="HTML", help="Also write a page to look at, to confirm and to dismiss."),
    click.option("--exit-code", is_flag=True, help="Leave with 10 when anomalies are found."),
)
OVERWRITE = (click.option("--overwrite", is_flag=True, help="Replace existing outputs."),)


def options(*groups: tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add groups of options to a command, in their order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


def config_from(given: dict[str, Any], scenes: tuple[str, ...] = (), *, model_is_frozen: bool = False) -> Config:
    """The settings that a command's options ask for; a ``.vrt`` or an address on the net that is named as a scene is thereby allowed.

    Raises:
        ConfigError: two threshold rules, a value that cannot be used, or a setting of a model that is frozen.
    """
    from geoanom.config import load_config

    rules = [f"--{name}" for name in ("fdr", "contamination", "top") if given.get(name) is not None]
    for item in given.get("sets", ()) if model_is_frozen else ():
        if item.partition(".")[0].partition("=")[0].strip() in OF_THE_MODEL:
            raise ConfigError(item, "is a setting of the model, which is frozen", "fit another model with it")
    if len(rules) > 1:
        raise ConfigError(" and ".join(rules), "are different rules", "give one")
    sets = [f"{SETTINGS[name]}={_as_yaml(name, value)}" for name, value in given.items() if name in SETTINGS and value is not None]
    config = load_config(given.get("config_path"), [*given.get("sets", ()), *sets])
    named = {"vrt": any(name.lower().endswith(".vrt") for name in scenes), "remote": any("://" in name for name in scenes)}
    config = _with_allowed(config, [kind for kind, is_named in named.items() if is_named])
    if "vrt" in config.sources.allow:
        from geoanom.raster.environ import lock_down

        lock_down(allow_vrt=True)
    return config


def _with_allowed(config: Config, kinds: list[str]) -> Config:
    allow = tuple(dict.fromkeys((*config.sources.allow, *kinds)))
    return config.model_copy(update={"sources": config.sources.model_copy(update={"allow": allow})})


def _as_yaml(name: str, value: Any) -> str:
    return f"[{value}]" if name == "bands" else str(value).lower() if isinstance(value, bool) else str(value)
