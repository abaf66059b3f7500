"""``geoanom info``: what it says of a scene is what an independent reader finds, and it fits every terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from products import write_landsat, write_safe
from pyproj import Geod, Transformer
from rasters import edit, noise, write_raster
from scipy.stats import percentileofscore
from servers import http_site
from test_cli import assert_one_line, run

from geoanom.cli import info_text
from geoanom.config import load_config
from geoanom.model.bundle import save_model
from geoanom.pipeline import fit, score
from geoanom.raster.summary import BINS, MAX_SAMPLE_VALUES, SAMPLE_PIXELS, summarize
from geoanom.sources.array import array_scene

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.raster.summary import Summary

STATISTICS = ("minimum", "p02", "median", "p98", "maximum")
SCENE_KEYS = {
    *("scene", "kind", "sha256", "height", "width", "height_km", "width_km", "crs", "crs_code", "resolution_m", "centre", "datetime"),
    *(
        "bands",
        "band_count",
        "valid_fraction",
        "sampled_pixels",
        "tiles",
        "tiles_scored",
        "tiles_masked",
        "tile_size",
        "stride",
        "warnings",
    ),
}
FORMATS = [
    *("rasterio/RGB.byte.tif", "rasterio/all-nodata.tif", "rasterio/float_nan.tif", "rasterio/rotated.tif", "rasterio/RGBA.uint16.tif"),
    *("rio-tiler/cog_tags.tif", "rio-tiler/cog_dateline.tif", "rio-tiler/cog_fullearth.tif", "rio-tiler/cog_scale.tif"),
    *("rio-tiler/cog_gcps_ovr.tif", "rio-tiler/inverted_lat.tif", "sar/complex64_slc_rotated.tif", "sar/s1_gcps_only.tif"),
]


def facts_of(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    code, out, err = run(capsys, "info", *arguments, "--json")
    assert code == 0, err
    facts: dict[str, Any] = json.loads(out, parse_constant=pytest.fail)
    assert set(facts) == SCENE_KEYS
    return facts


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[str]:
    """The lines for people, which fit 80 columns and move no cursor."""
    code, out, err = run(capsys, "info", *arguments)
    assert code == 0, err
    lines = out.splitlines()
    assert all(len(line) <= 80 and (line.isprintable() or not line) for line in lines), out
    return lines


def in_a_process(path: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The program as a shell starts it."""
    command = [sys.executable, "-m", "geoanom", "info", str(path)]
    return subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment})


def looked_at(values: NDArray[Any], valid: NDArray[np.bool_] | None = None, *sets: str) -> Summary:
    return summarize(array_scene(values, valid=valid), load_config(sets=["tiles.size=8", *sets], environ={}))


def arrays() -> st.SearchStrategy[NDArray[Any]]:
    shapes = st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40))
    return st.sampled_from(["uint8", "int16", "uint16", "int32", "float32"]).flatmap(lambda dtype: hnp.arrays(dtype, shapes))


@given(values=arrays(), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_small_scene_is_told_exactly(values: NDArray[Any], share: float, seed: int) -> None:
    valid = (np.random.default_rng(seed).random(values.shape[1:]) < share) & np.isfinite(values).all(axis=0)
    summary = looked_at(values, valid)
    assert summary.n_valid == summary.n_sampled == valid.sum()
    assert len(summary.bands) == (len(values) if valid.any() else 0)
    for band, all_pixels in zip(summary.bands, values, strict=False):
        usable = all_pixels[valid].astype(np.float64)
        assert [getattr(band, name) for name in STATISTICS] == np.percentile(usable, [0, 2, 50, 98, 100]).tolist()
        counts = band.histogram.counts
        assert sum(counts) == len(usable)
        assert len(counts) <= BINS


@given(values=hnp.arrays("int32", st.tuples(st.just(1), st.just(30), st.just(30)), elements=st.integers(-50_000, 50_000)))
def test_a_histogram_is_numpys_with_the_far_values_in_its_ends(values: NDArray[np.int32]) -> None:
    (band,) = looked_at(values).bands
    histogram = band.histogram
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    assert np.array_equal(edges, edges.round()), "bins of integers would hold unequally many values"
    inside = np.clip(values, histogram.low, histogram.high - 1)
    assert histogram.counts == tuple(np.histogram(inside, edges)[0].tolist())
    assert histogram.low <= np.percentile(values, 1) <= np.percentile(values, 99) <= histogram.high


def test_of_a_large_scene_a_bounded_sample_has_the_right_percentiles(sample_scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = facts_of(capsys, sample_scene)
    with rasterio.open(sample_scene) as src:
        pixels = src.read()
    assert facts["sampled_pixels"] == SAMPLE_PIXELS < pixels[0].size
    for band, values in zip(facts["bands"], pixels, strict=True):
        assert (band["minimum"], band["maximum"]) == (values.min(), values.max())
        assert sum(band["histogram"]["counts"]) == SAMPLE_PIXELS
        for name, percent in {"p02": 2, "median": 50, "p98": 98}.items():
            below, up_to = (percentileofscore(values.ravel(), band[name], kind) for kind in ("strict", "weak"))
            assert below - 0.4 <= percent <= up_to + 0.4, (band["name"], name)


def test_the_sample_prefers_no_part_of_the_scene() -> None:
    row, col = np.mgrid[:700, :700].astype(np.float32)
    summary = looked_at(np.stack([row, col, (row + col) % 2]))
    for band, halfway in zip(summary.bands, (349.5, 349.5, 0.5), strict=True):
        counts = np.array(band.histogram.counts)
        assert abs(band.median - halfway) < 4 or band.median in (0, 1)
        assert counts[:12].sum() / counts.sum() == pytest.approx(0.5, abs=0.005)


def test_the_sample_of_many_bands_stays_small() -> None:
    summary = looked_at(np.ones((200, 250, 250), np.uint8))
    assert summary.n_sampled == MAX_SAMPLE_VALUES // 200


def test_tiles_are_counted_as_a_run_scores_them(
    fill_scene: Path, quick_config: Config, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = fit([fill_scene], quick_config)
    (ran,) = score([fill_scene], model).layer.scenes
    facts = facts_of(capsys, fill_scene, "--tile-size", "32")
    assert (facts["tiles_scored"], facts["tiles_masked"]) == (ran.tiles_scored, ran.tiles_masked)
    assert facts["tiles"] == ran.tiles_scored + ran.tiles_masked
    save_model(model, tmp_path / "model")
    lines = told(capsys, tmp_path / "model")
    assert lines[0].split() == ["model", model.model_id]
    assert any(line.startswith("fitted on") and line.endswith(fill_scene.name) for line in lines)


def test_place_and_size_agree_with_pyproj(sample_scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = facts_of(capsys, sample_scene)
    with rasterio.open(sample_scene) as src:
        to_wgs84 = Transformer.from_crs(src.crs.to_wkt(), "EPSG:4326", always_xy=True)
        centre, west, east = (to_wgs84.transform(*(src.transform @ place)) for place in ((512, 512), (0, 512), (1024, 512)))
    assert facts["centre"] == pytest.approx(centre, abs=1e-6)
    assert facts["width_km"] == pytest.approx(Geod(ellps="WGS84").inv(*west, *east)[2] / 1000, abs=1e-3)
    assert (facts["kind"], facts["crs_code"]) == ("GeoTIFF", "EPSG:32618")
    lines = told(capsys, sample_scene)
    assert lines[1] == "GeoTIFF of 1024 x 1024 pixels, 10.24 x 10.24 km"
    assert "centre      37.6387 N, 75.6695 W" in lines
    assert "no warnings" in lines


def test_the_whole_earth_is_as_long_as_the_equator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earth = write_raster(tmp_path / "earth.tif", noise(90, 180), crs="EPSG:4326", transform=Affine(2, 0, -180, 0, -2, 90))
    facts = facts_of(capsys, earth)
    assert facts["width_km"] == pytest.approx(40_075.017, abs=0.01)
    assert facts["height_km"] == pytest.approx(20_003.931, abs=0.01)
    assert facts["centre"] == [0, 0]
    beyond = write_raster(tmp_path / "beyond.tif", noise(10, 10), crs="EPSG:4326", transform=Affine(1, 0, 178, 0, -1, 5))
    assert facts_of(capsys, beyond)["centre"] == [-177, 0]


@pytest.mark.parametrize("name", FORMATS)
def test_real_files_of_every_kind_are_told(shared_data: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = shared_data / "formats" / name
    facts, lines = facts_of(capsys, path, "--pixel-space"), told(capsys, path, "--pixel-space")
    assert lines[0] == path.name
    assert ("no warnings" in lines) == (not facts["warnings"])
    assert facts["tiles_scored"] + facts["tiles_masked"] == facts["tiles"]
    for band in facts["bands"]:
        numbers = [band[name] for name in STATISTICS]
        assert numbers == sorted(numbers) if facts["valid_fraction"] else set(numbers) == {None}


def test_two_hundred_bands_are_twelve_lines_and_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = write_raster(tmp_path / "many.tif", noise(40, 40, 200).astype(np.float32) * -1e-38)
    edit(many, descriptions=tuple(f"a band with a very long name, the {i}th" for i in range(200)))
    lines = told(capsys, many)
    first = lines.index("and 188 more") - 12
    assert [int(line.split()[0]) for line in lines[first : first + 12]] == list(range(1, 13))
    assert len(facts_of(capsys, many)["bands"]) == 200


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_left_out(tmp_path: Path, hole: float, capsys: pytest.CaptureFixture[str]) -> None:
    values = noise(64, 64).astype(np.float32)
    values[0, :32] = hole
    facts = facts_of(capsys, write_raster(tmp_path / "holes.tif", values))
    assert facts["valid_fraction"] == 0.5
    assert facts["bands"][0]["maximum"] == values[0, 32:].max()


def test_one_pixel_is_a_scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dot = write_raster(tmp_path / "dot.tif", np.full((1, 1, 1), 7, np.uint8))
    facts = facts_of(capsys, dot, "--tile-size", "1")
    assert [facts["bands"][0][name] for name in STATISTICS] == [7] * 5
    assert facts["bands"][0]["histogram"] == {"low": 7, "high": 8, "counts": [1]}
    assert any("0.01 x 0.01 km" in line for line in told(capsys, dot))


def test_a_scene_on_another_machine_is_told_without_its_password(sample_scene: Path) -> None:
    with http_site() as site:
        done = in_a_process(site.put("scene.tif", sample_scene.read_bytes()).replace("://", "://me:hidden@"))
    out = done.stdout.decode()
    assert "GeoTIFF on another machine of 1024 x 1024 pixels, 10.24 x 10.24 km" in out
    assert "100 % of the pixels" in out
    assert "hidden" not in out + done.stderr.decode()


def test_a_cog_is_told_from_a_plain_geotiff(small_scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with rasterio.open(small_scene) as src:
        cog = write_raster(tmp_path / "cog.tif", src.read(), driver="COG")
    assert facts_of(capsys, cog)["kind"] == "Cloud Optimized GeoTIFF"
    assert facts_of(capsys, small_scene)["kind"] == "GeoTIFF"


def test_products_are_told_with_their_bands_and_time(
    sample_scene: Path, fill_scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    safe, landsat = (
        facts_of(capsys, built.path)
        for built in (write_safe(tmp_path, sample_scene, baseline="02.14"), write_landsat(tmp_path, fill_scene))
    )
    assert (safe["kind"], safe["band_count"]) == ("Sentinel-2 product", 12)
    assert [band["name"] for band in safe["bands"]] == ["B02", "B03", "B04", "B08"]
    assert (landsat["kind"], landsat["datetime"][:10]) == ("Landsat product", "2020-05-18")
    assert all(-0.1 < band["median"] < 1 for band in safe["bands"] + landsat["bands"]), "reflectances"


def test_warnings_say_what_is_wrong_and_what_to_do() -> None:
    good = noise(64, 64, 3).astype(np.uint16) * 100
    left = np.arange(64) < 20
    assert looked_at(good).warnings == ()
    constant, coarse, saturated = good.copy(), good.copy(), good.copy()
    constant[1] = 7
    coarse[2] = good[2] // 2000
    saturated[0, :, :2] = 65535
    cases: list[tuple[NDArray[Any], NDArray[np.bool_] | None, list[str]]] = [
        (constant, None, ["band 2 has one value everywhere", "--bands"]),
        (np.zeros_like(good) + 7, None, ["every band has one value everywhere", "right file"]),
        (coarse, None, ["band 3 uses fewer than 16 steps of uint16"]),
        (1e6 + coarse[2:].astype(np.float32) / 16, None, ["band 1 uses fewer than 16 steps of float32"]),
        (saturated, None, ["3.1 % of the pixels of band 1 are at 65535", "sources.qa"]),
        (good, np.broadcast_to(left, (64, 64)), ["only 31.2 % of the pixels can be used", "--bands"]),
        (good, np.zeros((64, 64), bool), ["no pixel can be used", "nodata"]),
    ]
    for values, valid, words in cases:
        (warning,) = looked_at(values, valid).warnings
        assert all(word in warning for word in words), warning
    scattered = np.random.default_rng(0).random((64, 64)) < 0.6
    (warning,) = looked_at(good, scattered).warnings
    assert "no tile has enough usable pixels" in warning


def test_bands_are_warned_of_together() -> None:
    values = noise(30, 30, 20)
    values[5:] = 7
    (warning,) = looked_at(values).warnings
    assert warning.startswith("bands 6, 7, 8, 9, 10, 11 and 9 more have one value everywhere")


def test_names_cannot_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_raster(tmp_path / "s\x1b[31m.tif", noise(20, 20))
    assert told(capsys, path)[0] == r"s\x1b[31m.tif"
    facts = facts_of(capsys, path)
    facts["bands"][0]["name"] = "\x1b[2J\x1b]0;owned\x07\nB"
    lines = list(info_text.scene_lines(facts))
    assert all(line.isprintable() for line in lines)
    assert any(r"\x1b[2J" in line for line in lines)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_gets_only_what_it_can_show(encoding: str, tmp_path: Path) -> None:
    path = edit(write_raster(tmp_path / "name-\u03b2.tif", noise(20, 20)), descriptions=("\u03b2",))
    done = in_a_process(path, PYTHONIOENCODING=encoding)
    text = done.stdout.decode(encoding)
    blocks = set(info_text.BLOCKS[1:]) & set(text)
    assert bool(blocks) == (encoding == "utf-8")
    assert blocks or done.stdout.isascii()
    assert r"\u25" not in text
    assert b"\x1b" not in done.stdout


@pytest.mark.parametrize("name", ["README.md", "tests", "pyproject.toml"])
def test_what_is_no_scene_gets_one_line(name: str, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> None:
    code, out, err = run(capsys, "info", request.config.rootpath / name)
    assert (code, out) == (4, "")
    assert_one_line(err, name)
