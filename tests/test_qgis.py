"""A real QGIS opens what is written: layers with their styles, and projects with everything in its place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from layers import TRANSFORM, flat_scene, score_map
from PIL import Image
from pyproj import CRS, Transformer
from rasterio.enums import ColorInterp
from rasters import noise, write_raster
from shapely import wkt

from geoanom.errors import InputError
from geoanom.layer.anomaly import AnomalyLayer, SceneSummary, anomalies_of
from geoanom.layer.cog import write_heatmap
from geoanom.layer.features import Feature, Features, features_of
from geoanom.layer.qgis import write_project
from geoanom.layer.qgis_place import PACIFIC
from geoanom.layer.qgis_raster import RAMP
from geoanom.layer.qgis_scene import windows
from geoanom.layer.qgis_xml import clean, document, element
from geoanom.layer.styles import COLOURS, write_styles
from geoanom.registry import EXPORTERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

VECTORS = [suffix for suffix in EXPORTERS.names() if suffix != ".tif"]
LOOK = Path(__file__).with_name("qgis_look.py")
PLACES = {
    "mid-latitude": (TRANSFORM, CRS.from_epsg(32618)),
    "rotated": (TRANSFORM @ Affine.rotation(30), CRS.from_epsg(32618)),
    "south-up": (Affine(10.0, 0.0, 435_730.0, 0.0, 10.0, 4_176_000.0), CRS.from_epsg(32618)),
    "degrees": (Affine(0.01, 0.0, 10.0, 0.0, -0.01, 50.0), CRS.from_epsg(4326)),
    "antimeridian": (Affine(0.01, 0.0, 178.6, 0.0, -0.01, 10.0), CRS.from_epsg(4326)),
    "antimeridian from the east": (Affine(0.01, 0.0, -181.4, 0.0, -0.01, 10.0), CRS.from_epsg(4326)),
    "antimeridian in metres": (Affine(500.0, 0.0, 700_000.0, 0.0, -500.0, 1_100_000.0), CRS.from_epsg(32660)),
    "pole": (Affine(2000.0, 0.0, -320_000.0, 0.0, -2000.0, 256_000.0), CRS.from_epsg(3413)),
}
ACROSS = ("antimeridian", "antimeridian from the east")
"""Places whose maps in degrees would end within the scene."""
PEAKS = {(1, 1): 5.0, (2, 6): 7.0, (6, 8): 2.0, (5, 3): 4.0}
HOSTILE = """<img src=x onerror=alert(1)> "ü" & 'q' </b> [% 1+1 %] </mapTip>.tif"""
SIZE = (900, 700)
COLOUR_STEPS = 12
"""How far a drawn colour may be from the wanted one."""
Answer = dict[str, Any]


def layer_at(place: str, peaks: dict[tuple[int, int], float] | None = None) -> tuple[Features, AnomalyLayer]:
    transform, crs = PLACES[place]
    scene = flat_scene(transform=transform, crs_wkt=crs.to_wkt())
    scores = score_map(scene, peaks=PEAKS if peaks is None else peaks)
    made = AnomalyLayer(
        model_id="0123456789ab",
        config_digest="ba9876543210",
        threshold={"rule": "fdr", "value": 0.05},
        scenes=(SceneSummary(scene=scene, tiles_scored=len(scores), tiles_masked=0, warnings=()),),
        anomalies=tuple(anomalies_of(scores, scores.statistic > 0.5, "0123456789ab")),
    )
    return features_of(made, [scores]), made


def files_at(place: str, folder: Path) -> AnomalyLayer:
    """A scene, its heatmap, its layer as GeoPackage, and a project of them."""
    features, made = layer_at(place)
    transform, crs = PLACES[place]
    write_raster(folder / "scene.tif", noise(256, 320, 4), transform=transform, crs=crs.to_wkt(), photometric="MINISBLACK")
    write_heatmap(score_map(made.scenes[0].scene, peaks=PEAKS), folder / "heat.tif")
    EXPORTERS.load(".gpkg")(features, folder / "layer.gpkg")
    write_project(features, folder / "map.qgz", layer=folder / "layer.gpkg", scene=folder / "scene.tif", heatmap=folder / "heat.tif")
    return made


@pytest.fixture(scope="session")
def qgis_python() -> str:
    python = os.environ.get("QGIS_PYTHON", "/usr/bin/python3")
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    try:
        found = subprocess.run([python, "-c", "import qgis.core"], env=environment, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        found = False
    if not found:
        pytest.skip(f"needs QGIS with its Python (Debian: python3-qgis; or QGIS_PYTHON), and {python} cannot import qgis.core")
    return python


def looked_at(python: str, tasks: list[dict[str, Any]]) -> list[Answer]:
    """What QGIS says of each task, in a process of its own with settings of nobody."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GDAL", "PROJ", "CPL", "PYTHON", "VIRTUAL"))}
    environment |= {"QT_QPA_PLATFORM": "offscreen"}
    run = subprocess.run([python, str(LOOK), json.dumps(tasks)], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    answers: list[Answer] = json.loads(run.stdout.splitlines()[-1])["answers"]
    return answers


@pytest.fixture(scope="module")
def projects(qgis_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, AnomalyLayer, Answer]]:
    """For each place the folder, the layer, and what QGIS makes of its project, which was moved after it had been written."""
    made = {}
    for place in PLACES:
        first, folder = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("moved") / "here"
        made[place] = (folder, files_at(place, first))
        first.rename(folder)
    tasks = [{"open": str(folder / "map.qgz"), "render": str(folder / "map.png"), "tips": True} for folder, _ in made.values()]
    return {place: (*made[place], answer) for place, answer in zip(made, looked_at(qgis_python, tasks), strict=True)}


@pytest.mark.parametrize("place", PLACES)
def test_a_project_opens_without_a_complaint_with_its_layers_in_order(place: str, projects: dict[str, Any]) -> None:
    _, made, answer = projects[place]
    assert answer["opened"]
    assert answer["bad"] == answer["said"] == answer["errors"] == []
    assert answer["title"] == "Anomalies of flat.tif"
    assert [(layer["name"], layer["valid"], layer["visible"]) for layer in answer["layers"]] == [
        ("Anomalies", True, True),
        ("Tiles by score", True, False),
        ("Edges of scenes", True, True),
        ("Score", True, True),
        ("scene.tif", True, True),
    ]
    expected = PACIFIC if place in ACROSS else PLACES[place][1]
    assert answer["crs"] == answer["view_crs"] == f"EPSG:{expected.to_epsg()}"
    if place not in ACROSS:
        assert answer["layers"][3]["crs"] == answer["layers"][4]["crs"] == f"EPSG:{PLACES[place][1].to_epsg()}"
    assert len(made) == len(PEAKS)


@pytest.mark.parametrize("place", PLACES)
def test_qgis_reads_the_features_that_were_written(place: str, projects: dict[str, Any]) -> None:
    _, made, answer = projects[place]
    anomalies, tiles, scenes = answer["layers"][:3]
    written = {f.properties["anomaly_id"]: f.geometry for f in features_of(made).stream()}
    assert anomalies["count"] == anomalies["declared"] == len(written)
    assert tiles["count"] == sum(1 for _ in layer_at(place)[0].tiles())  # type: ignore[misc]
    assert scenes["count"] == 1
    for identity, text in zip(anomalies["ids"], anomalies["wkt"], strict=True):
        assert shapely.hausdorff_distance(wkt.loads(text), written[identity]) <= 1e-7
    assert anomalies["crs"] == tiles["crs"] == scenes["crs"] == "EPSG:4326"


def on_picture(answer: Answer, xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where places in the project's CRS lie on the picture, whose view is widened to its shape."""
    left, bottom, right, top = answer["view"]
    unit = max((right - left) / SIZE[0], (top - bottom) / SIZE[1])
    middle = np.array([left + right, bottom + top]) / 2
    placed: NDArray[np.float64] = np.array(SIZE) / 2 + (xy - middle) / unit * [1, -1]
    return placed


def edges_of(made: AnomalyLayer, crs: CRS) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Level and midpoints of the edges of each outline, in a CRS."""
    georef = made.scenes[0].scene.georef
    moved = Transformer.from_crs(georef.crs, crs, always_xy=True)
    for anomaly in made.anomalies:
        corners = shapely.get_coordinates(anomaly.outline)
        middles = (corners[1:] + corners[:-1]) / 2
        yield anomaly.level, np.column_stack(moved.transform(*georef.xy(middles[:, 0], middles[:, 1])))


@pytest.mark.parametrize("place", PLACES)
def test_the_picture_shows_the_outlines_in_their_colours_where_the_anomalies_are(place: str, projects: dict[str, Any]) -> None:
    folder, made, answer = projects[place]
    picture = np.asarray(Image.open(folder / "map.png").convert("RGB")).astype(int)
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    seen = set()
    for level, middles in edges_of(made, CRS.from_user_input(answer["crs"])):
        wanted = [int(COLOURS[level][i : i + 2], 16) for i in (1, 3, 5)]
        for x, y in on_picture(answer, middles).round().astype(int):
            around = picture[y - 2 : y + 3, x - 2 : x + 3]
            assert (np.abs(around - wanted).max(axis=2) <= COLOUR_STEPS).any(), (level, x, y)
        seen.add(level)
    assert seen == set(COLOURS)


@pytest.mark.parametrize("place", PLACES)
def test_the_picture_shows_the_scene_everywhere_inside_its_edges_and_nowhere_else(place: str, projects: dict[str, Any]) -> None:
    folder, made, answer = projects[place]
    picture = np.asarray(Image.open(folder / "map.png").convert("RGB"))
    scene = made.scenes[0].scene
    cols, rows = np.meshgrid(np.linspace(4, 316, 40), np.linspace(4, 252, 40))
    moved = Transformer.from_crs(scene.georef.crs, CRS.from_user_input(answer["crs"]), always_xy=True)
    xy = np.column_stack(moved.transform(*scene.georef.xy(cols.ravel(), rows.ravel())))
    x, y = on_picture(answer, xy).round().astype(int).T
    assert (picture[y, x] == 255).all(axis=1).mean() < 0.05
    assert (picture[:4] == 255).all()
    assert (picture[-4:] == 255).all()


def test_a_project_has_ranks_aliases_a_form_and_stretches(projects: dict[str, Any]) -> None:
    _, _, answer = projects["mid-latitude"]
    anomalies, tiles, _, heat, scene = answer["layers"]
    assert anomalies["renderer"] == "categorizedSymbol"
    assert anomalies["classes"] == COLOURS
    assert anomalies["labels"] == "rank"
    assert anomalies["aliases"]["area_m2"] == "Area in m²"
    assert anomalies["aliases"]["score_rx"] == "Score by rx"
    on_form = [name for names in anomalies["tabs"].values() for name in names]
    assert sorted(on_form) == sorted(set(anomalies["fields"]) - {"fid"})
    assert anomalies["tips"][0].startswith("<b>#")
    assert tiles["renderer"] == "graduatedSymbol"
    assert tiles["classes"] == {"0.6 1": COLOURS["high"], "0.3 0.6": COLOURS["medium"], "0 0.3": COLOURS["low"]}
    assert heat["renderer"] == "singlebandpseudocolor"
    assert [(value, colour, alpha) for value, colour, alpha in heat["ramp"]] == list(RAMP)
    assert (scene["renderer"], scene["bands"]) == ("multibandcolor", [1, 2, 3])
    low, high = np.percentile(noise(256, 320, 4)[:3], [2, 98], axis=(1, 2))
    assert np.allclose(scene["stretch"], np.column_stack([low, high]), atol=3)


@pytest.fixture(scope="module")
def loaded(qgis_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Files of every format with the styles that were written for them, and more projects, as QGIS sees them."""
    folder = tmp_path_factory.mktemp("loaded")
    features, made = layer_at("mid-latitude")
    tasks: dict[str, dict[str, Any]] = {}
    for suffix in VECTORS:
        path = folder / f"as_{suffix[1:]}{suffix}"
        EXPORTERS.load(suffix)(features, path)
        if suffix not in (".gpkg", ".csv"):
            write_styles(path)
        tasks[suffix] = {"open": str(path), "tips": True}
    tasks[".gpkg"]["open"] += "|layername=anomalies"
    tasks[".csv"] = {"open": f"file://{folder}/as_csv.csv?type=csv&xField=lon&yField=lat&crs=EPSG:4326", "provider": "delimitedtext"}
    for layer in ("anomalies", "tiles", "scenes"):
        tasks[layer] = {"open": f"{folder}/as_gpkg.gpkg|layername={layer}", "tips": True}
    write_heatmap(score_map(made.scenes[0].scene, peaks=PEAKS), folder / "heat.tif")
    write_styles(folder / "heat.tif")
    tasks["heat"] = {"open": str(folder / "heat.tif"), "provider": "gdal", "sld": str(folder / "heat.sld")}
    tasks["sld"] = {"open": tasks[".fgb"]["open"], "sld": str(folder / "as_fgb.sld")}
    tasks |= others(folder)
    return dict(zip(tasks, looked_at(qgis_python, list(tasks.values())), strict=True))


def others(folder: Path) -> dict[str, dict[str, Any]]:
    """Empty layers, layers in pixels, and hostile names."""
    tasks: dict[str, dict[str, Any]] = {}
    empty, _ = layer_at("mid-latitude", peaks={})
    for suffix in (".gpkg", ".geojson", ".fgb", ".kml"):
        path = folder / f"empty_{suffix[1:]}{suffix}"
        EXPORTERS.load(suffix)(empty, path)
        write_project(empty, path.with_suffix(".qgz"), layer=path)
        tasks[f"empty{suffix}"] = {"open": str(path.with_suffix(".qgz")), "render": str(path.with_suffix(".png"))}
    scene = flat_scene(transform=Affine.identity(), crs_wkt=None)
    scores = score_map(scene, peaks=PEAKS)
    summary = SceneSummary(scene=scene, tiles_scored=len(scores), tiles_masked=0, warnings=())
    anomalies = tuple(anomalies_of(scores, scores.statistic > 0.5, "0"))
    pixels = features_of(AnomalyLayer(model_id="0", config_digest="0", threshold={}, scenes=(summary,), anomalies=anomalies))
    for suffix in (".gpkg", ".geojson"):
        EXPORTERS.load(suffix)(pixels, folder / f"pixels_{suffix[1:]}{suffix}")
    tasks["pixels.gpkg"] = {"open": f"{folder}/pixels_gpkg.gpkg|layername=anomalies"}
    tasks["pixels.geojson"] = {"open": f"{folder}/pixels_geojson.geojson"}
    deep = folder / "projects"
    deep.mkdir()
    path = folder / """a "ü" & <b>'q'.gpkg"""
    EXPORTERS.load(".gpkg")(hostile(), path)
    write_project(hostile(), deep / "map <i>.qgz", layer=path)
    tasks["hostile"] = {"open": str(deep / "map <i>.qgz"), "tips": True}
    return tasks


def hostile() -> Features:
    features, _ = layer_at("mid-latitude")
    bad = [Feature(f.geometry, {**f.properties, "scene": HOSTILE, "reason": HOSTILE}) for f in features.stream()]
    provenance = json.loads(json.dumps(features.provenance).replace("flat.tif", json.dumps(HOSTILE)[1:-1]))
    scenes = [Feature(f.geometry, {**f.properties, "name": HOSTILE, "warnings": HOSTILE}) for f in features.scenes]
    return Features(provenance=provenance, in_pixels=False, stream=lambda: iter(bad), scenes=tuple(scenes))


@pytest.mark.parametrize("suffix", VECTORS)
def test_qgis_loads_every_format_with_its_style(suffix: str, loaded: dict[str, Answer]) -> None:
    found = loaded[suffix]["layers"][0]
    if suffix == ".parquet" and not found["valid"]:
        known = subprocess.run(["ogrinfo", "--formats"], capture_output=True, text=True, check=True).stdout
        assert "Parquet" not in known  # Debian builds QGIS and GDAL without it
        return
    assert found["valid"]
    written = {f.properties["anomaly_id"]: f.geometry for f in layer_at("mid-latitude")[0].stream()}
    assert found["count"] == len(written)
    assert set(found["ids"]) == set(written)
    assert found["crs"] == "EPSG:4326"
    if suffix != ".csv":
        assert (found["renderer"], found["classes"], found["labels"]) == ("categorizedSymbol", COLOURS, "rank")
        west, south, east, north = shapely.union_all(list(written.values())).bounds
        assert found["extent"] == pytest.approx([west, south, east, north], abs=1e-6)


def test_the_layers_of_a_geopackage_have_styles_of_their_own(loaded: dict[str, Answer]) -> None:
    renderers = {name: loaded[name]["layers"][0]["renderer"] for name in ("anomalies", "tiles", "scenes")}
    assert renderers == {"anomalies": "categorizedSymbol", "tiles": "graduatedSymbol", "scenes": "singleSymbol"}
    assert loaded["anomalies"]["layers"][0]["aliases"]["score_rx"] == "Score by rx"
    assert loaded["scenes"]["layers"][0]["tips"][0].startswith("<b>flat.tif</b>")
    assert all(text.startswith("<b>score 0") for text in loaded["tiles"]["layers"][0]["tips"])


def test_a_heatmap_takes_its_style_and_its_sld(loaded: dict[str, Answer]) -> None:
    found = loaded["heat"]["layers"][0]
    assert (found["valid"], found["renderer"], found["crs"]) == (True, "singlebandpseudocolor", "EPSG:32618")
    assert found["ramp"][0][2] == 0
    assert found["by_sld"] == "singlebandpseudocolor"
    assert loaded["sld"]["layers"][0]["by_sld"] == "RuleRenderer"


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".fgb", ".kml"])
def test_a_project_of_an_empty_layer_opens(suffix: str, loaded: dict[str, Answer]) -> None:
    answer = loaded[f"empty{suffix}"]
    assert answer["bad"] == answer["said"] == answer["errors"] == []
    assert [layer["valid"] for layer in answer["layers"]][:1] == [True]
    assert answer["layers"][0]["count"] == 0


def test_nothing_in_a_name_becomes_markup(loaded: dict[str, Answer]) -> None:
    answer = loaded["hostile"]
    assert answer["bad"] == answer["said"] == []
    assert answer["title"] == f"Anomalies of {HOSTILE.replace('[%', '[ %')}"
    tips = [tip for layer in answer["layers"] for tip in layer.get("tips", ())]
    assert len(tips) == len(PEAKS) + 1
    for tip in tips:
        bare = tip.replace("<b>", "").replace("</b>", "").replace("<br>", "\n")
        assert "<" not in bare
        assert ">" not in bare
        assert '"' not in bare
        assert HOSTILE in unescape(tip)


def test_qgis_takes_pixels_for_a_plane_without_a_place(loaded: dict[str, Answer]) -> None:
    geopackage, geojson = (loaded[f"pixels{suffix}"]["layers"][0] for suffix in (".gpkg", ".geojson"))
    assert geopackage["valid"]
    assert geopackage["count"] == geojson["count"] == len(PEAKS)
    assert geopackage["crs"] == ""
    assert geojson["crs"] == "EPSG:4326"  # a GeoJSON has no other


def test_equal_layers_give_equal_projects(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        files_at("mid-latitude", tmp_path / name)
    assert (tmp_path / "one" / "map.qgz").read_bytes() == (tmp_path / "two" / "map.qgz").read_bytes()


def project_text(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{path.stem}.qgs"]
        return archive.read(archive.namelist()[0]).decode()


def test_a_project_tells_no_folder_of_this_machine(tmp_path: Path) -> None:
    files_at("mid-latitude", tmp_path)
    text = project_text(tmp_path / "map.qgz")
    assert str(tmp_path) not in text
    assert "<datasource>./layer.gpkg|layername=anomalies</datasource>" in text


@pytest.mark.parametrize(("count", "kind"), [(1, "singlebandgray"), (2, "singlebandgray"), (4, "multibandcolor"), (30, "multibandcolor")])
def test_scenes_of_any_number_of_bands_are_shown(count: int, kind: str, tmp_path: Path) -> None:
    features, _ = layer_at("mid-latitude")
    EXPORTERS.load(".geojson")(features, tmp_path / "a.geojson")
    scene = write_raster(tmp_path / "scene.tif", noise(64, 96, count), transform=TRANSFORM, crs="EPSG:32618")
    write_project(features, tmp_path / "a.qgz", layer=tmp_path / "a.geojson", scene=scene)
    assert f'type="{kind}"' in project_text(tmp_path / "a.qgz")


def test_an_alpha_band_makes_the_outside_of_a_scene_transparent(tmp_path: Path) -> None:
    features, _ = layer_at("mid-latitude")
    EXPORTERS.load(".geojson")(features, tmp_path / "a.geojson")
    scene = write_raster(tmp_path / "scene.tif", noise(64, 96, 4), transform=TRANSFORM, crs="EPSG:32618", photometric="RGB", alpha="yes")
    write_project(features, tmp_path / "a.qgz", layer=tmp_path / "a.geojson", scene=scene)
    assert f'alphaBand="{ColorInterp.alpha - 2}"' in project_text(tmp_path / "a.qgz")


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.geojsonl", "a|b.gpkg"])
def test_layers_that_a_project_cannot_show_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no layer that every QGIS can show|a character in its name"):
        write_project(layer_at("mid-latitude")[0], tmp_path / "a.qgz", layer=tmp_path / name)
    assert not list(tmp_path.iterdir())


@given(text=st.text())
def test_any_text_is_carried_by_xml(text: str) -> None:
    tree = ET.fromstring(document(element("a", {"b": text}, element("c", text=text))))  # noqa: S314 - our own text
    assert (tree[0].text or "") == clean(text).replace("\r\n", "\n").replace("\r", "\n")
    assert tree.attrib["b"].split() == clean(text).split()


@given(height=st.integers(1, 5000), width=st.integers(1, 5000))
def test_the_sampled_windows_lie_in_the_scene_and_reach_its_corners(height: int, width: int) -> None:
    found = windows(replace(flat_scene(1, 1), height=height, width=width))
    assert len(found) <= 36
    assert all(w.row_off >= 0 and w.row_end <= height and w.col_off >= 0 and w.col_end <= width for w in found)
    assert (found[0].row_off, found[0].col_off, found[-1].row_end, found[-1].col_end) == (0, 0, height, width)


def test_the_sample_scene(qgis_python: str, sample_scene: Path, tmp_path: Path) -> None:
    shutil.copy(sample_scene, tmp_path / "scene.tif")
    features, _ = layer_at("mid-latitude")
    EXPORTERS.load(".fgb")(features, tmp_path / "a.fgb")
    write_project(features, tmp_path / "a.qgz", layer=tmp_path / "a.fgb", scene=tmp_path / "scene.tif")
    (answer,) = looked_at(qgis_python, [{"open": str(tmp_path / "a.qgz"), "render": str(tmp_path / "a.png")}])
    assert answer["bad"] == answer["said"] == []
    assert answer["layers"][-1]["bands"] == [3, 2, 1]
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("L"))[100:600, 200:700]
    assert picture.std() > 25
