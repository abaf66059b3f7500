"""STAC as pystac, its JSON schemas and geoanom itself read it."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from layers import TRANSFORM, UTM18, flat_scene, score_map
from pyproj import CRS
from pystac.extensions.projection import ProjectionExtension
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from rfc7946 import assert_rfc7946
from servers import http_site

from geoanom.config import load_config
from geoanom.errors import InputError, OutputError, SceneError
from geoanom.layer.anomaly import AnomalyLayer, SceneSummary, anomalies_of
from geoanom.layer.cog import write_heatmap
from geoanom.layer.features import Feature, Features, features_of
from geoanom.layer.geojson import write
from geoanom.layer.reading import read_features
from geoanom.layer.stac import StacAssets, write_stac
from geoanom.raster.compose import stacked
from geoanom.raster.georef import Georeference
from geoanom.raster.grid import Window
from geoanom.raster.scene import open_scene
from geoanom.registry import EXPORTERS
from geoanom.sources.stac_search import stac_items

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from geoanom.raster.scene import Scene

ALBERS = CRS.from_proj4("+proj=aea +lat_1=29.5 +lat_2=45.5 +lat_0=23 +lon_0=-96 +datum=NAD83 +units=m")
GCPS = tuple((r, c, 10.0 + c / 1000, 50.0 - r / 1000) for r in (0.0, 256.0) for c in (0.0, 320.0))
PLACES: dict[str, Georeference] = {
    "mid-latitude": Georeference(crs_wkt=UTM18, transform=TRANSFORM),
    "rotated": Georeference(crs_wkt=UTM18, transform=TRANSFORM @ Affine.rotation(30)),
    "south-up": Georeference(crs_wkt=UTM18, transform=Affine(10.0, 0.0, 435_730.0, 0.0, 10.0, 4_176_000.0)),
    "antimeridian": Georeference(crs_wkt=CRS.from_epsg(4326).to_wkt(), transform=Affine(0.01, 0.0, 178.6, 0.0, -0.01, 10.0)),
    "pole": Georeference(crs_wkt=CRS.from_epsg(3413).to_wkt(), transform=Affine(2000.0, 0.0, -320_000.0, 0.0, -2000.0, 256_000.0)),
    "no code": Georeference(crs_wkt=ALBERS.to_wkt(), transform=Affine(30.0, 0.0, 0.0, 0.0, -30.0, 1_500_000.0)),
    "control points": Georeference(crs_wkt=CRS.from_epsg(4326).to_wkt(), transform=Affine.identity(), gcps=GCPS),
    "pixels": Georeference(crs_wkt=None, transform=Affine.identity()),
}
HOSTILE = [
    "../../x.tif",
    "/etc/passwd",
    ".hidden.tif",
    "-rf",
    '<img src=x onerror="alert(1)">.tif',
    "a b#c?d%20e.tif",
    "сцена.tif",
    "..",
    "x" * 400,
    "A.tif",
    "a.jp2",
]
MOMENT = "2024-05-06T07:08:09Z"


def scene_at(place: str, name: str = "flat.tif", datetime: str | None = MOMENT) -> Scene:
    digest = hashlib.sha256(f"{place}/{name}".encode("utf-8", "replace")).hexdigest()
    return replace(flat_scene(), georef=PLACES[place], name=name, digest=digest, datetime=datetime)


def features_at(*scenes: Scene, model_id: str = "0123456789ab") -> Features:
    """One anomaly in the first scene, and one more in each than in the one before it; at most twelve."""
    cells = [(row, col) for row in (1, 4, 7) for col in (1, 3, 5, 7)]
    maps = [score_map(scene, peaks={cell: 5.0 + i / 10 + j / 5 for j, cell in enumerate(cells[: i + 1])}) for i, scene in enumerate(scenes)]
    layer = AnomalyLayer(
        model_id=model_id,
        config_digest="ba9876543210",
        threshold={"rule": "fdr", "value": 0.05},
        scenes=tuple(SceneSummary(scene=s, tiles_scored=80 + i, tiles_masked=i, warnings=("a warning",)) for i, s in enumerate(scenes)),
        anomalies=tuple(anomaly for scores in maps for anomaly in anomalies_of(scores, scores.statistic > 0.5, model_id)),
    )
    return features_of(layer)


def export(features: Features, folder: Path, **assets: Any) -> pystac.Collection:
    """Write the layer and its collection side by side, and let pystac read it."""
    layer = folder / "layer.geojson"
    write(features, layer)
    n_items = write_stac(features, folder / "stac", assets=StacAssets(**{"layers": (layer,), **assets}))
    collection = pystac.Collection.from_file(str(folder / "stac/collection.json"))
    assert n_items == len(list(collection.get_items()))
    return collection


def trees(folder: Path) -> Iterator[dict[str, Any]]:
    """Collection and items as JSON."""
    for path in sorted(folder.rglob("*.json")):
        yield json.loads(path.read_text("utf-8"))


def assert_valid(folder: Path) -> None:
    """By the schemas of STAC 1.1.0 that pystac brings; nothing is fetched."""
    for tree in trees(folder):
        kind = pystac.STACObjectType(tree["type"])
        JsonSchemaSTACValidator().validate_core(tree, kind, "1.1.0", tree["id"])


@pytest.mark.parametrize("place", PLACES)
def test_pystac_reads_place_and_grid_of_every_kind_of_scene(place: str, tmp_path: Path) -> None:
    scene = scene_at(place)
    features = features_at(scene)
    collection = export(features, tmp_path)
    assert_valid(tmp_path / "stac")
    (item,) = collection.get_items()
    (entry,) = features.provenance["scenes"]
    assert item.geometry == json.loads(json.dumps(entry["footprint"]))
    grid = ProjectionExtension.ext(item)
    assert grid.shape == [256, 320]
    if place == "pixels":
        assert item.bbox is None
        assert collection.extent.spatial.bboxes == [[-180, -90, 180, 90]]
    else:
        feature = {"type": "Feature", "id": item.id, "geometry": item.geometry, "properties": {}}
        assert_rfc7946(json.dumps({"type": "FeatureCollection", "features": [feature], "bbox": item.bbox}))
        assert collection.extent.spatial.bboxes == [item.bbox]
    if place in ("pixels", "control points"):
        assert grid.code is None
        assert grid.transform is None
        assert grid.bbox is None
        return
    assert grid.transform == pytest.approx(scene.georef.transform[:6], abs=0)
    assert scene.georef.crs is not None
    told = CRS.from_user_input(grid.code or grid.wkt2)
    assert told.equals(scene.georef.crs, ignore_axis_order=True)
    with rasterio.MemoryFile() as memory, memory.open(driver="GTiff", height=256, width=320, count=1, dtype="uint8") as dst:
        dst.transform = scene.georef.transform
        corners = np.array([dst.xy(row, col, offset="ul") for row in (0, 256) for col in (0, 320)])
    assert grid.bbox == pytest.approx([*corners.min(axis=0), *corners.max(axis=0)])


def test_boxes_cross_the_antimeridian_and_hold_the_pole(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (crossing,) = export(features_at(scene_at("antimeridian")), tmp_path / "a").get_items()
    (polar,) = export(features_at(scene_at("pole")), tmp_path / "b").get_items()
    assert crossing.bbox == pytest.approx([178.6, 7.44, -178.2, 10.0])
    assert polar.bbox is not None
    assert (polar.bbox[0], polar.bbox[2], polar.bbox[3]) == (-180, 180, 90)


def test_three_scenes_are_three_items_with_counts_of_their_own(tmp_path: Path) -> None:
    times = ["2024-05-06T07:08:09Z", "2023-01-01T00:00:00Z", "2025-02-03T04:05:06Z"]
    places = ["mid-latitude", "rotated", "no code"]
    scenes = [scene_at(place, f"s{i}.tif", time) for i, (place, time) in enumerate(zip(places, times, strict=True))]
    features = features_at(*scenes)
    collection = export(features, tmp_path)
    assert_valid(tmp_path / "stac")
    items = sorted(collection.get_items(), key=lambda item: item.id)
    found = list(features.stream())
    assert [item.id for item in items] == ["s0", "s1", "s2"]
    for i, item in enumerate(items):
        mine = [f.properties for f in found if f.properties["scene"] == f"s{i}.tif"]
        assert item.properties["geoanom:anomalies"] == len(mine) == i + 1
        assert item.properties["geoanom:max_score"] == max(p["score"] for p in mine)
        assert item.properties["geoanom:tiles_scored"] == 80 + i
        assert item.properties["geoanom:scene_digest"] == scenes[i].digest
        assert item.properties["geoanom:threshold_rule"] == "fdr"
        assert item.properties["datetime"] == times[i]
        assert item.properties["processing:software"] == {"geoanom": features.provenance["version"]}
    interval = collection.to_dict()["extent"]["temporal"]["interval"]
    assert interval == [[min(times), max(times)]]
    west, south, east, north = collection.extent.spatial.bboxes[0]
    for item in items:
        assert item.bbox is not None
        assert west <= item.bbox[0] <= item.bbox[2] <= east
        assert south <= item.bbox[1] <= item.bbox[3] <= north


def test_a_scene_without_a_time_has_the_range_that_stac_demands(tmp_path: Path) -> None:
    collection = export(features_at(scene_at("mid-latitude", "a.tif"), scene_at("mid-latitude", "b.tif", None)), tmp_path)
    assert_valid(tmp_path / "stac")
    known, unknown = sorted(collection.get_items(), key=lambda item: item.id)
    assert known.datetime is not None
    assert unknown.datetime is None
    start, end = unknown.common_metadata.start_datetime, unknown.common_metadata.end_datetime
    assert start is not None
    assert end is not None
    assert start < known.datetime < end
    assert collection.extent.temporal.intervals == [[None, None]]


def test_links_stay_inside_and_lead_to_the_collection_and_back(tmp_path: Path) -> None:
    export(features_at(scene_at("mid-latitude", "a.tif"), scene_at("rotated", "b.tif")), tmp_path)
    shutil.move(tmp_path / "stac", tmp_path / "moved")
    collection = json.loads((tmp_path / "moved/collection.json").read_text())
    assert [link["rel"] for link in collection["links"]] == ["root", "item", "item"]
    for link in collection["links"]:
        where = (tmp_path / "moved" / link["href"]).resolve()
        assert where.is_relative_to(tmp_path / "moved")
        tree = json.loads(where.read_text())
        for back in tree["links"] if link["rel"] == "item" else []:
            assert (where.parent / back["href"]).resolve() == tmp_path / "moved/collection.json"
            assert tree["collection"] == collection["id"]


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, str]:
    """A bundle's folder as far as the export looks at it, and its name."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.json").write_text('{"schema_version": 3}\n')
    return tmp_path / "model", hashlib.sha256((tmp_path / "model/model.json").read_bytes()).hexdigest()[:12]


def test_every_asset_can_be_reached_and_says_what_it_is(tmp_path: Path, model: tuple[Path, str]) -> None:
    folder = tmp_path / "a folder#1 ü"
    folder.mkdir()
    scene = scene_at("mid-latitude")
    features = features_at(scene, model_id=model[1])
    layers = [*(folder / f"layer{suffix}" for suffix in EXPORTERS.names() if suffix != ".tif"), folder / "again.gpkg"]
    for path in layers:
        EXPORTERS.load(path.suffix)(features, path)
    scores = score_map(scene, peaks={(1, 1): 5.0})
    write_heatmap(scores, folder / "heat.tif")
    (folder / "look.html").write_text("<!doctype html>")
    (folder / "flat.tif").write_bytes(b"not looked at")
    made = {"scene": str(folder / "flat.tif"), "heatmap": folder / "heat.tif", "model": model[0], "report": folder / "look.html"}
    collection = export(features, tmp_path, layers=tuple(layers), **made)
    assert_valid(tmp_path / "stac")
    (item,) = collection.get_items()
    assert set(collection.item_assets) == set(item.assets)
    here = item.get_self_href()
    assert here is not None
    expected = {"scene": folder / "flat.tif", "heatmap": folder / "heat.tif", "report": folder / "look.html", "anomalies": layers[0]}
    for key, path in {**expected, "model": model[0] / "model.json", "anomalies_gpkg": folder / "layer.gpkg"}.items():
        href = item.assets[key].href
        assert unquote(urljoin(Path(here).as_uri(), href)).removeprefix("file://") == str(path)
        assert not href.startswith("/")
    assert len([key for key in item.assets if key.startswith("anomalies")]) == len(layers)
    assert {asset.media_type for asset in item.assets.values()} >= {
        pystac.MediaType.GEOJSON,
        pystac.MediaType.GEOPACKAGE,
        pystac.MediaType.FLATGEOBUF,
        pystac.MediaType.KML,
        pystac.MediaType.VND_APACHE_PARQUET,
        pystac.MediaType.COG,
        pystac.MediaType.GEOTIFF,
        pystac.MediaType.HTML,
        pystac.MediaType.JSON,
    }
    heat = ProjectionExtension.ext(item.assets["heatmap"])
    with rasterio.open(folder / "heat.tif") as src:
        assert (heat.code, heat.shape) == ("EPSG:32618", [src.height, src.width])
        assert heat.transform == list(src.transform[:6])
        assert heat.bbox == list(src.bounds)
    (band,) = item.assets["heatmap"].extra_fields["bands"]
    assert band == {
        "name": "score",
        "data_type": "float32",
        "nodata": "nan",
        **({"statistics": band["statistics"]} if "statistics" in band else {}),
    }
    vectors = [asset for key, asset in item.assets.items() if key.startswith("anomalies")]
    assert not [name for asset in vectors for name in asset.extra_fields if name.startswith("proj:")]


def test_a_layer_that_is_a_raster_is_the_heatmap_of_its_item(tmp_path: Path) -> None:
    scene = scene_at("mid-latitude")
    for name in ("heat.tif", "other.tif"):
        write_heatmap(score_map(scene), tmp_path / name)
    collection = export(features_at(scene), tmp_path, layers=(tmp_path / "heat.tif",), heatmap=tmp_path / "other.tif")
    assert_valid(tmp_path / "stac")
    (item,) = collection.get_items()
    assert [(key, Path(asset.href).name) for key, asset in item.assets.items()] == [("heatmap", "heat.tif"), ("heatmap_2", "other.tif")]
    heat = item.assets["heatmap"]
    assert (heat.media_type, heat.roles) == (pystac.MediaType.COG, ["heatmap"])
    assert ProjectionExtension.ext(heat).code == "EPSG:32618"


def test_addresses_hold_where_folders_are_links(tmp_path: Path) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep/er")
    (tmp_path / "scene.tif").write_bytes(b"not looked at")
    export(features_at(scene_at("mid-latitude")), tmp_path / "link", scene=str(tmp_path / "link/../../scene.tif"))
    (item,) = trees(tmp_path / "link/stac/items")
    for asset in item["assets"].values():
        assert (tmp_path / "link/stac/items" / asset["href"]).is_file()


def test_statistics_of_the_heatmap_are_those_that_the_file_tells(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "heat.tif", "w", driver="GTiff", height=8, width=9, count=2, dtype="float32", crs="EPSG:32618", transform=TRANSFORM
    ) as dst:
        dst.update_tags(1, STATISTICS_MINIMUM="0.25", STATISTICS_MAXIMUM="1", STATISTICS_MEAN="0.5", STATISTICS_STDDEV="0.125")
    (item,) = export(features_at(scene_at("mid-latitude")), tmp_path, heatmap=tmp_path / "heat.tif").get_items()
    assert_valid(tmp_path / "stac")
    first, second = item.assets["heatmap"].extra_fields["bands"]
    assert first["statistics"] == {"minimum": 0.25, "maximum": 1.0, "mean": 0.5, "stddev": 0.125}
    assert "statistics" not in second
    assert item.assets["heatmap"].media_type == pystac.MediaType.GEOTIFF


def assert_harmless(folder: Path, names: Sequence[str]) -> None:
    """One item for each name, inside its folder, under a name that no address has to quote."""
    files = [path.name for path in (folder / "stac/items").iterdir()]
    assert len(files) == len({file.casefold() for file in files}) == len(names)
    assert all(len(file) < 255 and set(file) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") for file in files)
    assert not any(file.startswith((".", "-")) for file in files)
    assert {path.name for path in (folder / "stac").iterdir()} == {"items", "collection.json"}
    titles = [tree["properties"]["title"] for tree in trees(folder / "stac/items")]
    assert sorted(titles) == sorted(names)


def test_hostile_names_stay_inside_and_are_told_as_they_are(tmp_path: Path) -> None:
    collection = export(features_at(*(scene_at("mid-latitude", name) for name in HOSTILE)), tmp_path)
    assert_valid(tmp_path / "stac")
    assert_harmless(tmp_path, HOSTILE)
    assert {item.properties["geoanom:anomalies"] for item in collection.get_items()} == set(range(1, len(HOSTILE) + 1))


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), min_size=1, max_size=5))
def test_any_names_give_an_item_each(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("names")
    scenes = [{"name": name, "shape": [2, 3], "footprint": None, "digest": "d"} for name in names]
    features = Features(provenance={"scenes": scenes}, in_pixels=True, stream=lambda: iter(()))
    (folder / "layer.geojson").write_text("{}")
    assert write_stac(features, folder / "stac", assets=StacAssets(layers=(folder / "layer.geojson",))) == len(names)
    assert_harmless(folder, names)


def test_scenes_that_share_a_name_have_no_counts(tmp_path: Path) -> None:
    one, two = scene_at("mid-latitude"), scene_at("rotated")
    items = list(export(features_at(one, two), tmp_path).get_items())
    assert {item.properties["geoanom:scene_digest"] for item in items} == {one.digest, two.digest}
    assert not any("geoanom:anomalies" in item.properties for item in items)


def test_equal_layers_give_equal_folders_wherever_they_lie(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        export(features_at(scene_at("mid-latitude"), scene_at("pole", "b.tif")), tmp_path / name)
    one, two = tmp_path / "one/stac", tmp_path / "two/stac"
    files = sorted(path.relative_to(one) for path in one.rglob("*.json"))
    assert len(files) == 3
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes()
        assert str(tmp_path) not in (one / file).read_text()


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".parquet"])
def test_a_layer_that_was_read_back_gives_the_same_items(suffix: str, tmp_path: Path) -> None:
    features = features_at(scene_at("mid-latitude"))
    path = tmp_path / f"layer{suffix}"
    EXPORTERS.load(suffix)(features, path)
    for name, layer in (("one", features), ("two", read_features(path))):
        write_stac(layer, tmp_path / name, assets=StacAssets(layers=(path,)))
    assert list(trees(tmp_path / "one")) == list(trees(tmp_path / "two"))


def test_an_older_collection_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    export(features_at(scene_at("mid-latitude", "old.tif")), tmp_path)
    export(features_at(scene_at("mid-latitude", "new.tif")), tmp_path)
    assert [path.name for path in (tmp_path / "stac/items").iterdir()] == ["new.json"]
    (tmp_path / "stac/notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds other files than a STAC collection \(notes\.txt\)"):
        export(features_at(scene_at("mid-latitude")), tmp_path)
    assert (tmp_path / "stac/notes.txt").read_text() == "mine"
    with pytest.raises(OutputError, match="is a file"):
        write_stac(features_at(scene_at("mid-latitude")), tmp_path / "layer.geojson", assets=StacAssets(layers=()))


def test_anomalies_are_counted_in_one_pass_as_they_stream_by(tmp_path: Path) -> None:
    features = features_at(scene_at("mid-latitude"))
    one = next(features.stream())
    passes = []

    def stream() -> Iterator[Feature]:
        passes.append(1)
        return (Feature(None, {**one.properties, "score": i / 20_000}) for i in range(20_000))

    write_stac(replace(features, stream=stream), tmp_path / "stac", assets=StacAssets(layers=()))
    (item,) = trees(tmp_path / "stac/items")
    assert item["properties"]["geoanom:anomalies"] == 20_000
    assert item["properties"]["geoanom:max_score"] == 19_999 / 20_000
    assert len(passes) == 1


def test_what_cannot_be_a_collection_is_refused_in_one_line(tmp_path: Path, model: tuple[Path, str]) -> None:
    features = features_at(scene_at("mid-latitude"))
    both = features_at(scene_at("mid-latitude", "a.tif"), scene_at("mid-latitude", "b.tif"))
    layer = tmp_path / "layer.geojson"
    write(features, layer)
    (tmp_path / "bad.tif").write_text("no raster")
    (entry,) = features.provenance["scenes"]
    old = {**features.provenance, "scenes": [{"name": "flat.tif", "digest": "d"}]}
    odd = {**features.provenance, "scenes": [{**entry, "transform": [1, 2]}]}
    cases: list[tuple[Features, dict[str, Any], str]] = [
        (replace(features, provenance={}), {}, "does not tell its scenes"),
        (replace(features, provenance=old), {}, "as an older geoanom made it"),
        (replace(features, provenance=odd), {}, "cannot be understood"),
        (replace(features, provenance={**odd, "scenes": [{**entry, "crs": "nonsense"}]}), {}, "is no CRS"),
        (replace(features, stream=both.stream), {}, r"an anomaly of the scene 'a\.tif', which it does not tell"),
        (both, {"scene": "https://example.org/a.tif"}, "is of one scene, and the layer of 2"),
        (both, {"heatmap": tmp_path / "bad.tif"}, "is of one scene"),
        (features, {"scene": str(tmp_path / "gone.tif")}, r"gone\.tif: does not exist"),
        (features, {"layers": (tmp_path / "gone.gpkg",)}, "does not exist"),
        (features, {"heatmap": tmp_path / "bad.tif"}, "is no heatmap that can be read"),
        (features, {"model": model[0]}, "and the layer is of 0123456789ab"),
        (features, {"model": tmp_path}, r"model\.json: does not exist"),
    ]
    for bad, assets, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            write_stac(bad, tmp_path / "stac", assets=StacAssets(**{"layers": (layer,), **assets}))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "stac").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tif", "layer.geojson", "model"], "nothing is left behind"


def test_a_url_is_told_without_its_secrets(tmp_path: Path) -> None:
    (item,) = export(features_at(scene_at("mid-latitude")), tmp_path, scene="https://me:pw@example.org/a.tif?sig=secret").get_items()
    assert item.assets["scene"].href == "https://example.org/a.tif"
    assert item.assets["scene"].media_type == pystac.MediaType.GEOTIFF


def layer_of_file(path: str, sets: Sequence[str] = ()) -> tuple[Scene, Features]:
    scene = open_scene(path, load_config(sets=list(sets), environ={}))
    return scene, features_at(scene)


def assert_same_scene(ours: Scene, direct: Scene) -> None:
    """The item is a stack of one: its digest is that of the stack of the scene itself."""
    window = Window(row_off=0, col_off=0, height=direct.height, width=direct.width)
    assert ours.digest == stacked([direct]).digest
    assert ours.georef == direct.georef
    assert ours.datetime == direct.datetime
    np.testing.assert_array_equal(ours.open_handle().read(window).values, direct.open_handle().read(window).values)


def test_geoanom_opens_the_items_that_it_serves(small_scene: Path, tmp_path: Path) -> None:
    shutil.copy(small_scene, tmp_path / "scene 20240506.tif")
    _, features = layer_of_file(str(tmp_path / "scene 20240506.tif"))
    write_heatmap(score_map(flat_scene(320, 320)), tmp_path / "heat.tif")
    export(features, tmp_path, scene=str(tmp_path / "scene 20240506.tif"), heatmap=tmp_path / "heat.tif")
    config = load_config(sets=["sources.allow=[remote]"], environ={})
    with http_site() as site:
        for path in (path for path in tmp_path.rglob("*") if path.is_file()):
            site.put(str(path.relative_to(tmp_path)), path.read_bytes())
        (found,) = stac_items(f"{site.url}/stac/collection.json", config)
        direct = open_scene(f"{site.url}/scene%2020240506.tif", config)
        assert_same_scene(open_scene(found, config), direct)


def test_geoanom_opens_local_items_below_a_catalog_that_holds_the_scene_too(small_scene: Path, tmp_path: Path) -> None:
    shutil.copy(small_scene, tmp_path / "20240506.tif")
    direct, features = layer_of_file(str(tmp_path / "20240506.tif"))
    export(features, tmp_path, scene=str(tmp_path / "20240506.tif"))
    (path,) = (tmp_path / "stac/items").iterdir()
    with pytest.raises(SceneError, match="names a file outside its catalog"):
        open_scene(str(path), load_config(environ={}))
    (tmp_path / "catalog.json").write_text(
        json.dumps({"type": "Catalog", "stac_version": "1.1.0", "id": "c", "description": "c", "links": []})
    )
    item = json.loads(path.read_text())
    item["links"][0]["href"] = "../../catalog.json"
    path.write_text(json.dumps(item))
    assert_same_scene(open_scene(str(path), load_config(environ={})), direct)
