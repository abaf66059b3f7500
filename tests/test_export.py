"""``geoanom export``: everything is checked before anything is written, and every refusal says the way out."""

from __future__ import annotations

import json
import zipfile
from contextlib import chdir
from typing import TYPE_CHECKING

import pytest
from layers import TRANSFORM, flat_scene, score_map
from rasters import noise, write_raster

from geoanom.cli.main import main
from geoanom.layer.anomaly import AnomalyLayer, SceneSummary, anomalies_of
from geoanom.layer.cog import write_heatmap
from geoanom.layer.features import features_of
from geoanom.layer.reading import read_features
from geoanom.registry import EXPORTERS

if TYPE_CHECKING:
    from pathlib import Path

    from affine import Affine

PEAKS = {(1, 1): 5.0, (2, 6): 7.0}


def write_layer(path: Path, *, transform: Affine = TRANSFORM, in_pixels: bool = False) -> Path:
    scene = flat_scene(crs_wkt=None) if in_pixels else flat_scene(transform=transform)
    scores = score_map(scene, peaks=PEAKS)
    made = AnomalyLayer(
        model_id="0123456789ab",
        config_digest="ba9876543210",
        threshold={"rule": "fdr", "value": 0.05},
        scenes=(SceneSummary(scene=scene, tiles_scored=len(scores), tiles_masked=0, warnings=()),),
        anomalies=tuple(anomalies_of(scores, scores.statistic > 0.5, "0123456789ab")),
    )
    EXPORTERS.load(path.suffix)(features_of(made), path)
    return path


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a layer, its scene, heatmap and page, and a folder for outputs."""
    write_layer(tmp_path / "in.geojson")
    write_layer(tmp_path / "pixels.geojson", in_pixels=True)
    write_raster(tmp_path / "scene.tif", noise(256, 320, 4), transform=TRANSFORM, crs="EPSG:32618")
    write_heatmap(score_map(flat_scene(), peaks=PEAKS), tmp_path / "heat.tif")
    (tmp_path / "page.html").write_text("<p>", "utf-8")
    (tmp_path / "text.tif").write_text("no raster", "utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "out").mkdir()
    return tmp_path


def export(work: Path, capsys: pytest.CaptureFixture[str], arguments: str) -> tuple[int, str]:
    """Exit code and stderr of the command in a folder, its arguments given as words."""
    with chdir(work), pytest.raises(SystemExit) as stop:
        main(["export", *arguments.split()])
    return int(stop.value.code or 0), capsys.readouterr().err


def written(work: Path) -> set[str]:
    return {str(path.relative_to(work / "out")) for path in (work / "out").rglob("*") if path.is_file()}


def test_one_command_writes_the_layer_its_styles_and_a_project(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, err = export(work, capsys, "in.geojson out/a.gpkg --styles --qgz --scene scene.tif --heatmap heat.tif")
    assert (code, err) == (0, "")
    assert written(work) == {"a.gpkg", "a.qml", "a.sld", "a.qgz"}
    assert "singlebandpseudocolor" in (work / "heat.qml").read_text("utf-8")
    assert "RasterSymbolizer" in (work / "heat.sld").read_text("utf-8")
    assert len(list(read_features(work / "out" / "a.gpkg").stream())) == len(PEAKS)
    with zipfile.ZipFile(work / "out" / "a.qgz") as archive:
        text = archive.read("a.qgs").decode()
    for source in ("./a.gpkg|layername=anomalies", "./a.gpkg|layername=scenes", "../heat.tif", "../scene.tif"):
        assert f"<datasource>{source}</datasource>" in text


def test_the_items_of_a_collection_point_to_what_is_named(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, err = export(work, capsys, "in.geojson out/a.fgb --stac out/stac --scene scene.tif --heatmap heat.tif --report page.html")
    assert (code, err) == (0, "")
    (item,) = (work / "out" / "stac" / "items").iterdir()
    hrefs = {asset["href"] for asset in json.loads(item.read_text("utf-8"))["assets"].values()}
    assert {"../../a.fgb", "../../../scene.tif", "../../../heat.tif", "../../../page.html"} <= hrefs


REFUSED = [
    ("in.geojson out/a.shp", 2, "choose .gpkg"),
    ("in.geojson out/a.qgz", 2, "OUT.gpkg --qgz"),
    ("in.geojson out/a.tif", 4, "--heatmap"),
    ("in.geojson out/a.xyz", 2, "choose one of .geojson, .json"),
    ("in.geojson out/a", 2, "choose one of .geojson, .json"),
    ("in.geojson in.geojson --overwrite", 2, "is the same file as the input in.geojson"),
    ("in.geojson out/../in.geojson --overwrite", 2, "is the same file as the input in.geojson"),
    ("in.geojson link.geojson --overwrite", 2, "is the same file as the input in.geojson"),
    ("gone.geojson out/a.gpkg --qgz", 4, "gone.geojson: does not exist"),
    ("in.geojson out/a.gpkg --scene scene.tif", 2, "--scene: says nothing without --qgz or --stac"),
    ("in.geojson out/a.gpkg --heatmap heat.tif", 2, "--heatmap: says nothing without --qgz or --stac or --styles"),
    ("in.geojson out/a.gpkg --qgz --model folder", 2, "--model: says nothing without --stac"),
    ("in.geojson out/a.gpkg --qgz --report page.html", 2, "--report: says nothing without --stac"),
    ("in.geojson out/a.gpkg --qgz --heatmap gone.tif", 4, "gone.tif: does not exist"),
    ("in.geojson out/a.gpkg --qgz --scene gone.tif", 4, "gone.tif: does not exist"),
    ("in.geojson out/a.gpkg --stac out/s --model gone", 4, "gone: does not exist"),
    ("in.geojson out/a.gpkg --stac out/s --report gone.html", 4, "gone.html: does not exist"),
    ("in.geojson out/a.gpkg --qgz --heatmap text.tif", 4, "text.tif: is not a readable raster"),
    ("in.geojson out/a.gpkg --qgz --scene text.tif", 4, "text.tif: is not a raster"),
    ("in.geojson out/a.gpkg --qgz --scene folder", 4, "folder: cannot be shown in a project"),
    ("in.geojson out/a.gpkg --qgz --scene https://example.com/a.tif", 4, "lies on the net"),
    ("in.geojson out/a.csv --styles", 2, "a CSV holds points"),
    ("in.geojson out/a.csv --qgz", 4, "choose one of .gpkg, .geojson"),
    ("pixels.geojson out/a.gpkg --qgz", 4, "see it with geoanom report"),
    ("in.geojson out/none/a.gpkg", 5, "create it first"),
    ("in.geojson out/a.gpkg --stac out/none/s", 5, "create it first"),
    ("old.geojson out/a.gpkg --stac out/s", 4, "does not tell its scenes"),
    ("in.geojson out/heat.gpkg --styles --heatmap out/../out/heat.tif", 2, "heat.qml: would be written twice"),
    ("in.geojson out/a.gpkg --stac out", 2, "lies in the STAC folder out"),
    ("in.geojson out/a.gpkg --stac out/s --model wrong", 4, "and the layer is of 0123456789ab"),
    ("in.geojson out/a.gpkg --stac out/s --heatmap text.tif", 4, "is no heatmap that can be read"),
    ("untold.geojson out/a.gpkg --stac out/s", 4, "has an anomaly of the scene 'other.tif', which it does not tell"),
    ("ruled.geojson out/a.gpkg --stac out/s", 4, "in a way that cannot be understood"),
]


@pytest.mark.parametrize(("arguments", "expected", "words"), REFUSED)
def test_what_cannot_be_done_is_one_line_and_writes_nothing(
    arguments: str, expected: int, words: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "link.geojson").symlink_to(work / "in.geojson")
    (work / "old.geojson").write_text('{"type":"FeatureCollection","features":[]}', "utf-8")
    text = (work / "in.geojson").read_text("utf-8")
    (work / "untold.geojson").write_text(text.replace('"scene":"flat.tif"', '"scene":"other.tif"'), "utf-8")
    (work / "ruled.geojson").write_text(text.replace('"threshold":{"rule":"fdr","value":0.05}', '"threshold":"high"'), "utf-8")
    (work / "wrong").mkdir()
    (work / "wrong" / "model.json").write_text("{}", "utf-8")
    if "out/heat.tif" in arguments:
        (work / "heat.tif").rename(work / "out" / "heat.tif")
    given = written(work)
    before = (work / "in.geojson").read_bytes()
    code, err = export(work, capsys, arguments)
    assert (code, err.count("\n")) == (expected, 1), err
    assert err.startswith("geoanom: error: ")
    assert words in err
    assert written(work) == given
    assert (work / "in.geojson").read_bytes() == before


@pytest.mark.parametrize("taken", ["a.gpkg", "a.qml", "a.sld", "a.qgz", "stac"])
def test_no_output_is_written_while_one_of_them_exists(taken: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "out" / taken).mkdir() if taken == "stac" else (work / "out" / taken).write_text("old", "utf-8")
    before = written(work)
    code, err = export(work, capsys, "in.geojson out/a.gpkg --styles --qgz --stac out/stac")
    assert code == 5
    assert f"{taken}: exists already" in err
    assert written(work) == before
    code, err = export(work, capsys, "in.geojson out/a.gpkg --styles --qgz --stac out/stac --overwrite")
    assert (code, err) == (0, "")
    assert {"a.gpkg", "a.qml", "a.sld", "a.qgz", "stac/collection.json"} <= written(work)


@pytest.mark.parametrize("transform", ["[1,2]", '["a",0,0,0,1,0]', "7", "[1e999,0,0,0,1,0]"])
def test_a_project_is_made_where_a_scene_tells_a_place_that_cannot_be(
    transform: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, tail = (work / "in.geojson").read_text("utf-8").split('"transform":[')
    (work / "bad.geojson").write_text(f'{head}"transform":{transform}{tail[tail.index("]") + 1 :]}', "utf-8")
    code, err = export(work, capsys, "bad.geojson out/a.gpkg --qgz")
    assert (code, written(work)) in ((0, {"a.gpkg", "a.qgz"}), (4, set())), err
    assert "bug" not in err
