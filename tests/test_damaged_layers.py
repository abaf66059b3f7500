"""Damaged and foreign layers: each is refused in one line that names the input, and nothing is written."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from layers import flat_scene, score_map

from geoanom.cli.main import main
from geoanom.errors import InputError
from geoanom.layer import heat
from geoanom.layer.anomaly import AnomalyLayer, SceneSummary, anomalies_of
from geoanom.layer.features import Feature, Features, features_of
from geoanom.layer.reading import read_features
from geoanom.layer.sound import guarded, sound_column
from geoanom.registry import EXPORTERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HEAD = '{"type":"FeatureCollection","geoanom":{},"features":['
SQUARE = '{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}'


def layer(n_peaks: int = 3) -> Features:
    scores = score_map(flat_scene(), peaks={(1 + i % 6, 1 + i % 8): 5.0 + i for i in range(n_peaks)})
    summary = SceneSummary(scene=scores.scene, tiles_scored=len(scores), tiles_masked=0, warnings=())
    return features_of(
        AnomalyLayer(
            model_id="0123456789ab",
            config_digest="ba9876543210",
            threshold={"rule": "fdr", "value": 0.05},
            scenes=(summary,),
            anomalies=tuple(anomalies_of(scores, scores.statistic > 0.5, "0123456789ab")),
        )
    )


def write(path: Path, features: Features | None = None) -> Path:
    EXPORTERS.load(path.suffix)(features or layer(), path)
    return path


def feature(properties: str = '{"anomaly_id":"a","score":0.5}', geometry: str = SQUARE) -> str:
    return f'{{"type":"Feature","geometry":{geometry},"properties":{properties}}}'


def collection(entry: str) -> str:
    return f'{{"type":"FeatureCollection","features":[{entry}]}}'


def export(source: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        main(["export", str(source), str(target)])
    return int(stop.value.code or 0), capsys.readouterr().err


def assert_refused(source: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, err = export(source, target, capsys)
    assert (code, err.count("\n")) == (4, 1), err
    assert err.startswith(f"geoanom: error: {source}: is not a readable layer (")
    assert not target.exists()


DAMAGED = {
    "no features.geojson": '{"type":"FeatureCollection"}',
    "features no list.geojson": '{"type":"FeatureCollection","features":5}',
    "no object.geojson": collection("5"),
    "no feature.geojson": collection('{"type":"Polygon"}'),
    "properties a list.geojson": collection(feature("[1]")),
    "unknown geometry.geojson": collection(feature(geometry='{"type":"Blob","coordinates":[0,0]}')),
    "geometry no object.geojson": collection(feature(geometry="7")),
    "open ring.geojson": collection(feature(geometry='{"type":"Polygon","coordinates":[[[0,0],[1]]]}')),
    "infinite.geojson": collection(feature(geometry='{"type":"Point","coordinates":[1e999,0]}')),
    "deep.geojson": collection(feature(f'{{"a":{"[" * 200_000}{"]" * 200_000}}}')),
    "deep lines.geojson": f"{HEAD}\n{feature()},\n{feature('[' * 200_000)}\n]}}\n",
    "rank a word.geojson": collection(feature('{"rank":"first"}')),
    "rank a list.geojson": collection(feature('{"rank":[1]}')),
    "rank too large.geojson": collection(feature('{"rank":1180591620717411303424}')),
    "surrogate.geojson": collection(feature('{"scene":"\\ud800"}')),
    "surrogate name.geojson": collection(feature('{"\\ud800":1}')),
    "surrogate inside.geojson": collection(feature('{"more":["\\ud800"]}')),
    "surrogate told.geojson": '{"type":"FeatureCollection","geoanom":{"model_id":"\\ud800"},"features":[]}',
    "scenes no list.geojson": '{"type":"FeatureCollection","geoanom":{"scenes":5},"features":[]}',
    "scene no object.geojson": '{"type":"FeatureCollection","geoanom":{"scenes":["a"]},"features":[]}',
    "scene without a name.geojson": '{"type":"FeatureCollection","geoanom":{"scenes":[{"name":5}]},"features":[]}',
    "cut.geojson": f"{HEAD}\n{feature()},\n{feature()[:50]}",
    "cut at a line.geojson": f"{HEAD}\n{feature()},\n{feature()},\n",
    "goes on.geojson": f"{HEAD}\n{feature()}\n]}}\n{feature()}\n",
    "cut.geojsonl": f"{feature()}\n{feature()[:50]}",
    "other.geojsonl": f"{feature()}\n[1]\n",
    "more cells.csv": "anomaly_id,score\na,0.5,0.7\n",
    "no number.csv": "anomaly_id,score\na,high\n",
    "far.geojson": collection(feature()).replace('{"type"', '{"crs":{"type":"name","properties":{"name":"EPSG:32618"}},"type"', 1),
    "unknown crs.geojson": collection(feature()).replace('{"type"', '{"crs":{"type":"name","properties":{"name":"no"}},"type"', 1),
}


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_text_is_one_line_of_the_input(name: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / name
    source.write_text(DAMAGED[name], "utf-8")
    assert_refused(source, tmp_path / f"out{suffix}", capsys)


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".parquet", ".geojson"])
def test_a_layer_in_metres_is_refused_and_the_same_in_degrees_is_read(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = gpd.GeoDataFrame({"anomaly_id": ["a"]}, geometry=[shapely.box(-75.1, 38.0, -75.0, 38.1)], crs="EPSG:4326")
    for name, crs in (("degrees", "EPSG:4326"), ("named", "OGC:CRS84"), ("metres", "EPSG:32618")):
        there = frame.to_crs(crs)
        path = tmp_path / f"{name}{suffix}"
        there.to_parquet(path) if suffix == ".parquet" else there.to_file(path, engine="pyogrio")
    for name in ("degrees", "named"):
        (found,) = read_features(tmp_path / f"{name}{suffix}").stream()
        assert found.geometry is not None
        assert found.geometry.bounds == pytest.approx((-75.1, 38.0, -75.0, 38.1))
    assert_refused(tmp_path / f"metres{suffix}", tmp_path / "out.geojson", capsys)
    with pytest.raises(InputError, match="reproject it to EPSG:4326"):
        read_features(tmp_path / f"metres{suffix}")


@pytest.mark.parametrize(("before", "after"), [("", "\n"), ("\x1e", "\n"), ("  ", " \n\n")])
def test_lines_are_read_however_they_are_spaced(before: str, after: str, tmp_path: Path) -> None:
    path = tmp_path / "a.geojsonl"
    path.write_text("".join(before + json.dumps(json.loads(feature())) + after for _ in range(3)), "utf-8")
    assert len(list(read_features(path).stream())) == 3


@pytest.mark.parametrize("tail", ["]}", "]\n}", '],"bbox":[0,0,1,1]}', "]\n}\n\n"])
def test_a_collection_may_end_in_several_ways(tail: str, tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(f"{HEAD}\n{json.dumps(json.loads(feature()))},\n{feature()}\n{tail}", "utf-8")
    assert len(list(read_features(path).stream())) == 2


def test_a_collection_whose_features_take_several_lines_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(f"{HEAD}\n{json.dumps(json.loads(feature()), indent=1)}\n]}}", "utf-8")
    assert len(list(read_features(path).stream())) == 1


@pytest.mark.parametrize("suffix", [".geojson", ".fgb", ".parquet"])
@given(part=st.floats(0.01, 0.99))
def test_a_layer_that_is_cut_is_never_read_as_whole(suffix: str, tmp_path_factory: pytest.TempPathFactory, part: float) -> None:
    whole = tmp_path_factory.mktemp("whole") / f"a{suffix}"
    content = write(whole).read_bytes()
    cut = whole.with_name(f"cut{suffix}")
    cut.write_bytes(content[: int(part * len(content))])
    with pytest.raises(InputError, match="is not a readable layer"):
        list(read_features(cut).stream())


@pytest.mark.filterwarnings("ignore")  # GDAL's, of what it can read of such a file
def test_a_geopackage_with_flipped_bytes_never_loses_features_or_its_place(tmp_path: Path) -> None:
    boxes = [Feature(shapely.box(i / 100, 0, i / 100 + 0.01, 1), {"anomaly_id": f"{i}", "reason": "x" * 200}) for i in range(300)]
    path = write(tmp_path / "a.gpkg", Features(provenance={}, in_pixels=False, stream=lambda: iter(boxes)))
    content, n_refused = path.read_bytes(), 0
    for start in range(4096, len(content), 4096):
        damaged = bytearray(content)
        damaged[start : start + 64] = bytes(64)
        path.write_bytes(damaged)
        try:
            again = read_features(path)
            assert (len(list(again.stream())), again.in_pixels) == (len(boxes), False)
        except InputError:
            n_refused += 1
    assert n_refused > 0


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".csv", ".parquet"])
def test_what_is_no_number_is_unknown(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.geojson"
    source.write_text(collection(feature('{"anomaly_id":"a","score":NaN,"rank":1e999,"n_tiles":"3","mine":-Infinity}')), "utf-8")
    assert export(source, tmp_path / f"out{suffix}", capsys) == (0, "")
    (found,) = read_features(tmp_path / f"out{suffix}").stream()
    assert [found.properties[name] for name in ("score", "rank", "n_tiles", "mine")] == [None, None, 3, None]


@given(values=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_whole_numbers_stay_as_they_are(values: list[int | None]) -> None:
    assert sound_column("rank", values) == values
    with pytest.raises(ValueError, match="64 bits"):
        sound_column("rank", [*values, 2**63])


@given(values=st.lists(st.none() | st.floats()))
def test_only_finite_numbers_stay(values: list[float | None]) -> None:
    for name in ("score", "of_my_own"):
        assert sound_column(name, values) == [value if value is not None and np.isfinite(value) else None for value in values]


def test_the_errors_of_who_takes_features_stay_theirs(tmp_path: Path) -> None:
    def groups() -> Iterator[list[Feature]]:
        yield [Feature(None, {})]
        raise ValueError("cut")

    stream = guarded(tmp_path / "a", groups)
    next(stream)
    with pytest.raises(OSError, match="full disk"):
        stream.throw(OSError("full disk"))  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'a'}: is not a readable layer (cut); export it again")):
        list(guarded(tmp_path / "a", groups))


def without_score(features: Features) -> Features:
    return replace(features, stream=lambda: (Feature(f.geometry, {"anomaly_id": "a"}) for f in features.stream()))


def told(**more: Any) -> Callable[[Features], Features]:
    def change(features: Features) -> Features:
        return replace(features, provenance={**features.provenance, "scenes": [{**features.provenance["scenes"][0], **more}]})

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_score, "a of the layer has no score"),
        (told(name=5), "a scene that cannot be"),
        (told(transform=[0, 0, 0, 0, 0, 0]), "a scene that cannot be"),
        (lambda features: replace(without_score(features), tiles=features.stream), "of the layer has no row"),
    ],
)
def test_a_heatmap_that_cannot_be_made_is_one_line(change: Callable[[Features], Features], words: str, tmp_path: Path) -> None:
    features = replace(layer(), provenance={**layer().provenance, "tile_size": 64, "stride": 32})
    heat.write(features, tmp_path / "good.tif")
    with pytest.raises(InputError, match=words):
        heat.write(change(features), tmp_path / "heat.tif")
    assert not (tmp_path / "heat.tif").exists()
