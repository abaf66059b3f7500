"""``geoanom export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from geoanom.cli.options import FILE, OVERWRITE, config_from, options
from geoanom.errors import ConfigError, ExitCode, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from geoanom.layer.features import Features
    from geoanom.layer.stac import StacAssets, Tally
    from geoanom.raster.scene import Scene

    Given = Mapping[str, str | Path | None]

NEEDS = {
    "scene": ("qgz", "stac"),
    "heatmap": ("qgz", "stac", "styles"),
    "model": ("stac",),
    "report": ("stac",),
}
"""Options that say nothing alone, and those that they belong to."""
INSTEAD = {
    ".shp": "a Shapefile holds ten letters of a name; choose .gpkg",
    ".qgz": "a project is written beside a layer, as in: geoanom export IN OUT.gpkg --qgz",
    ".qgs": "a project is written beside a layer, as in: geoanom export IN OUT.gpkg --qgz",
}
"""What people ask for that is no layer, and the way to it."""


@click.command()
@click.argument("layer", type=FILE, metavar="IN")
@click.argument("output", type=FILE, metavar="OUT")
@click.option("--styles", is_flag=True, help="Also write .qml for QGIS and .sld for servers beside OUT, and beside the heatmap.")
@click.option("--qgz", is_flag=True, help="Also write a QGIS project beside OUT, which shows it on its heatmap and scene.")
@click.option("--stac", type=FILE, metavar="FOLDER", help="Also write a STAC collection with an item for each scene.")
@click.option("--scene", metavar="SCENE", help="The scene, for the project and the items.")
@click.option("--heatmap", type=FILE, metavar="TIF", help="The scores that the same run wrote, for project, items and styles.")
@click.option("--model", type=FILE, metavar="MODEL", help="The model's folder, for the items.")
@click.option("--report", type=FILE, metavar="HTML", help="The page that geoanom report wrote, for the items.")
@options(OVERWRITE)
def export(layer: Path, output: Path, *, styles: bool, qgz: bool, stac: Path | None, overwrite: bool, **given: str | Path | None) -> int:
    """Write the layer IN in another format; it follows the suffix of OUT.

    A million anomalies are no matter: a few thousand are in memory at a time.
    """
    suffix = _known_suffix(output)
    if styles and suffix == ".csv":
        raise ConfigError("--styles", "are for outlines, and a CSV holds points", "choose another format, or leave it out")
    _check_company(given, {"qgz": qgz, "stac": stac is not None, "styles": styles})
    styled = [output, *([Path(given["heatmap"])] if given["heatmap"] else [])] if styles else []
    beside = [path.with_suffix(end) for path in styled for end in (".qml", ".sld")] + ([output.with_suffix(".qgz")] if qgz else [])
    inputs = [layer, *(Path(named) for named in given.values() if named is not None and "://" not in str(named))]
    _check_inputs(inputs[1:])
    _check_outputs([output, *beside], inputs, stac, overwrite=overwrite)
    from geoanom.layer.reading import read_features
    from geoanom.registry import EXPORTERS

    features = read_features(layer)
    opened = _project_scene(features, output, given) if qgz else None
    if stac is not None:
        from geoanom.layer.stac import check_stac

        tallies = check_stac(features, stac, assets=_assets(output, given))
    EXPORTERS.load(suffix)(features, output)
    for path in styled:
        from geoanom.layer.styles import write_styles

        write_styles(path)
    if qgz:
        _write_project(features, output, given, opened)
    if stac is not None:
        _write_stac(features, output, stac, given, tallies)
    return ExitCode.DONE


def _known_suffix(output: Path) -> str:
    """The suffix of a format that can be written."""
    from geoanom.registry import EXPORTERS

    suffix, known = output.suffix.lower(), EXPORTERS.names()
    if suffix not in known:
        raise ConfigError(output, "is of no format that a layer is written in", INSTEAD.get(suffix, f"choose one of {', '.join(known)}"))
    return suffix


def _check_company(given: Mapping[str, object], asked: Mapping[str, bool]) -> None:
    """Refuse options that say nothing without others."""
    for name, partners in NEEDS.items():
        if given[name] is not None and not any(asked[partner] for partner in partners):
            ways = " or ".join(f"--{partner}" for partner in partners)
            raise ConfigError(f"--{name}", f"says nothing without {ways}", f"add {ways}, or leave it out")


def _check_inputs(paths: Iterable[Path]) -> None:
    for path in paths:
        if not path.exists():
            raise InputError(path, "does not exist", "check the path")


def _check_outputs(outputs: list[Path], inputs: list[Path], stac: Path | None, *, overwrite: bool) -> None:
    """Refuse every output that cannot be written, before one is."""
    from geoanom.layer.atomic import check_output

    _check_apart(outputs, stac)
    for path in outputs:
        for source in inputs:
            if path.exists() and source.exists() and path.samefile(source):
                raise ConfigError(path, f"is the same file as the input {source}", "choose another name")
        check_output(path, overwrite=overwrite)
    if stac is not None:
        check_output(stac, overwrite=overwrite)


def _check_apart(outputs: list[Path], stac: Path | None) -> None:
    """Refuse outputs that would write over each other."""
    places = [_place(path) for path in outputs]
    for i, path in enumerate(outputs):
        if places[i] in places[:i]:
            raise ConfigError(path, "would be written twice", "give OUT another name than the heatmap has")
        if stac is not None and _place(stac) in (places[i], *places[i].parents):
            raise ConfigError(path, f"lies in the STAC folder {stac}, which holds nothing else", "write the layer beside it")


def _place(path: Path) -> Path:
    """Where a file lies, links of folders followed."""
    return path.absolute().parent.resolve() / path.name


def _project_scene(features: Features, output: Path, given: Given) -> Scene | None:
    """The scene of a project, after everything was refused that a project cannot show."""
    from geoanom.layer.qgis import check_sources
    from geoanom.raster.scene import open_scene

    scene = given["scene"]
    if scene is not None and "://" in str(scene):
        raise InputError(str(scene), "lies on the net, and a project shows a raster file", "download it, or leave --scene out")
    check_sources(features, output, _path(scene), _path(given["heatmap"]))
    return None if scene is None else open_scene(scene, config_from({}, (str(scene),)))


def _write_project(features: Features, output: Path, given: Given, opened: Scene | None) -> None:
    from geoanom.layer.qgis import write_project

    shown = {name: _path(given[name]) for name in ("scene", "heatmap")}
    write_project(features, output.with_suffix(".qgz"), layer=output, opened=opened, **shown)


def _write_stac(features: Features, output: Path, folder: Path, given: Given, tallies: Mapping[str, Tally]) -> None:
    from geoanom.layer.stac import write_stac

    write_stac(features, folder, assets=_assets(output, given), tallies=tallies)


def _assets(output: Path, given: Given) -> StacAssets:
    from geoanom.layer.stac import StacAssets

    scene = None if given["scene"] is None else str(given["scene"])
    paths = {name: _path(given[name]) for name in ("heatmap", "model", "report")}
    return StacAssets(layers=(output,), scene=scene, **paths)


def _path(named: str | Path | None) -> Path | None:
    return None if named is None else Path(named)
