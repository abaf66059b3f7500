"""The benchmark: draws, peers, tables, and what it says of data that are not as they should be."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.distance import mahalanobis
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score, roc_auc_score
from test_cli import assert_one_line, run

from geoanom.config import dump_config, load_config
from geoanom.evaluate import peers
from geoanom.evaluate.benchmark import SUITES, read_raster, run_suite
from geoanom.evaluate.results import Results, Row
from geoanom.evaluate.suites.hyperspectral import Pair, on_pixels, read_pair
from geoanom.evaluate.suites.rare_tiles import draw_chips, is_built, mosaic, summarize, write_mosaic
from geoanom.pipeline import Outputs, detect

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from geoanom.config import Config

SIDE = 32
GLOBAL_RX = {  # AUROC and AP that are known for the scenes
    "abu-airport-1": (0.822, 0.101),
    "abu-airport-3": (0.929, 0.248),
    "abu-beach-1": (0.981, 0.440),
    "abu-beach-2": (0.911, 0.119),
    "abu-urban-1": (0.991, 0.425),
    "abu-urban-2": (0.995, 0.754),
    "hydice": (0.993, 0.162),
    "sandiego_plane": (0.940, 0.201),
}


def quietly(items: Iterable[Any], /, *, desc: str | None = None, total: int | None = None) -> Iterable[Any]:  # noqa: ARG001
    return items


@pytest.fixture(scope="module")
def chip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 smooth chips in two classes of nature, and 4 with a bright lattice in two built ones."""
    rng = np.random.default_rng(5)
    folder = tmp_path_factory.mktemp("data") / "truth" / "rsscn7"
    for name, count, lattice in (("aGrass", 25, 0), ("z_RiverLake", 11, 0), ("Parking", 2, 90), ("fResident", 2, 90)):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            chip = rng.normal(110, 6, (SIDE, SIDE, 3))
            chip[::6] += lattice
            chip[:, ::6] += lattice
            Image.fromarray(chip.clip(0, 255).astype(np.uint8)).save(folder / name / f"{i:02}.{'png' if i % 2 else 'jpg'}", quality=95)
    return folder


@pytest.fixture(scope="module")
def spectra_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One scene of 40 x 48 pixels and 12 bands in which two small things have another spectrum."""
    rng = np.random.default_rng(6)
    values = (1000 + rng.normal(0, 20, (12, 40, 48)) + np.linspace(0, 400, 12)[:, None, None]).astype(np.uint16)
    truth = np.zeros((1, 40, 48), np.uint8)
    for row, col in ((10, 12), (27, 33)):
        truth[0, row : row + 4, col : col + 4] = 1
    values[6:, truth[0] == 1] -= 300
    folder = tmp_path_factory.mktemp("data") / "had"
    folder.mkdir()
    write_tif(folder / "place.tif", values)
    write_tif(folder / "place_gt.tif", truth)
    return folder


def write_tif(path: Path, values: np.ndarray) -> None:
    with rasterio.open(
        path, "w", driver="GTiff", dtype=values.dtype, count=len(values), height=values.shape[1], width=values.shape[2]
    ) as dst:
        dst.write(values)


@given(n_nature=st.integers(1, 400), n_built=st.integers(1, 60), seed=st.integers(0, 2**31))
def test_a_draw_fills_its_grid_with_different_chips_and_2_percent_of_them_are_built(n_nature: int, n_built: int, seed: int) -> None:
    built = np.random.default_rng(1).permutation(np.arange(n_nature + n_built) < n_built)
    draw = draw_chips(built, seed)
    assert draw.picked.size == draw.n_rows * draw.n_cols == np.unique(draw.picked).size
    wanted = max(1, round(0.02 / 0.98 * n_nature))
    assert built[draw.picked].sum() == min(wanted, n_built)
    left_out = n_nature + min(wanted, n_built) - draw.picked.size
    assert 0 <= left_out < draw.n_cols
    assert draw.n_cols <= draw.n_rows <= draw.n_cols + 2
    assert np.array_equal(draw.picked, draw_chips(built, seed).picked)


def test_draws_differ_from_seed_to_seed() -> None:
    built = np.arange(100) < 20
    picks = [draw_chips(built, seed).picked.tolist() for seed in range(5)]
    assert all(a != b for a, b in pairwise(picks))


def test_each_chip_of_a_mosaic_lies_at_its_place_of_the_draw_on_the_earth(tmp_path: Path) -> None:
    chips = [np.full((3, 8, 8), i, np.uint8) + np.array([0, 50, 100], np.uint8)[:, None, None] for i in range(30)]
    draw = draw_chips(np.arange(30) < 3, 3)
    write_mosaic(mosaic(chips, draw), tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as src:
        assert (src.crs.to_epsg(), src.transform.a, src.transform.e) == (32650, 1.0, -1.0)
        assert src.shape == (8 * draw.n_rows, 8 * draw.n_cols)
        for place, i in enumerate(draw.picked):
            row, col = divmod(place, draw.n_cols)
            assert np.array_equal(src.read()[:, 8 * row : 8 * row + 8, 8 * col : 8 * col + 8], chips[i])


@pytest.mark.parametrize(("name", "built"), [("aGrass", False), ("dRiverLake", False), ("cIndustry", True), ("industrial", True)])
def test_a_class_is_known_by_its_folder(name: str, built: bool, tmp_path: Path) -> None:  # noqa: FBT001
    assert is_built(tmp_path / name) is built


@given(seed=st.integers(0, 1000))
def test_global_rx_does_not_care_for_the_units_of_the_bands_and_agrees_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turned, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    pixels = rng.normal(size=(60, 4)) * [3.0, 1.0, 0.5, 0.1] @ turned + 100  # bands that depend on each other, none on all others
    scores = peers.global_rx(pixels)
    assert np.allclose(scores, peers.global_rx(pixels * [1.0, 5.0, 0.2, 30.0] - 7), rtol=1e-6)
    inverse = np.linalg.inv(np.cov(pixels.T))
    expected = [mahalanobis(pixel, pixels.mean(axis=0), inverse) ** 2 for pixel in pixels]
    assert np.allclose(scores, expected, rtol=1e-6)


def test_local_rx_measures_a_pixel_against_its_ring() -> None:
    image = np.random.default_rng(2).normal(50, 3, (3, 21, 23))
    row, col = 9, 12
    ring = np.ones((9, 9), bool)
    ring[3:6, 3:6] = False
    around = image[:, row - 4 : row + 5, col - 4 : col + 5][:, ring]  # (band, pixel)
    away = image[:, row, col] - around.mean(axis=1)
    covariance = np.cov(around, bias=True) + (peers.RIDGE * image.var() + 1e-9) * np.eye(3)
    assert peers.local_rx(image, 3, 9)[row, col] == pytest.approx(away @ np.linalg.solve(covariance, away), rel=1e-6)


def test_crd_is_the_residual_of_a_ridge_regression_on_the_ring() -> None:
    image = np.random.default_rng(3).random((20, 12, 13))
    row, col, penalty = 6, 5, 0.1
    ring = np.ones((7, 7), bool)
    ring[2:5, 2:5] = False
    around = image[:, row - 3 : row + 4, col - 3 : col + 4][:, ring]  # (band, neighbour)
    pixel = image[:, row, col]
    weight = np.linalg.norm(around - pixel[:, None], axis=0)  # the penalty of a coefficient grows with the distance
    fit = Ridge(alpha=penalty, fit_intercept=False, solver="cholesky").fit(around / weight, pixel)
    expected = np.linalg.norm(pixel - fit.predict(around / weight))
    assert peers.crd(image, 3, 7, penalty)[row, col] == pytest.approx(expected, rel=1e-5)


@given(rows=st.integers(8, 30), k=st.integers(1, 6), seed=st.integers(0, 99))
def test_one_neighbour_more_by_a_detector_is_the_same_as_leaving_the_row_out(rows: int, k: int, seed: int) -> None:
    table = np.random.default_rng(seed).normal(size=(rows, 2))
    low, high = np.percentile(table, [16, 84], axis=0)
    left_out = peers.by_raw_neighbours(k)(table / ((high - low) / 2), 0)
    assert np.allclose(peers.by_detector("knn", k=k + 1)(table, 0), left_out * k / (k + 1), atol=1e-6)


@pytest.mark.parametrize("name", GLOBAL_RX)
def test_global_rx_reaches_the_known_figures(name: str, shared_data: Path, plain_config: Config) -> None:
    folder = shared_data / "truth" / "had"
    image, truth = read_pair(Pair(scene=folder / f"{name}.tif", truth=folder / f"{name}_gt.tif"), plain_config)
    scores = peers.global_rx(image.reshape(len(image), -1).T)
    found = roc_auc_score(truth.ravel(), scores), average_precision_score(truth.ravel(), scores)
    assert found == pytest.approx(GLOBAL_RX[name], abs=6e-4)


@given(height=st.integers(1, 20), width=st.integers(1, 20), stride=st.integers(1, 6))
def test_a_pixel_takes_the_score_of_its_cell_and_one_without_score_ranks_last(height: int, width: int, stride: int) -> None:
    cells = np.arange(-(-height // stride) * -(-width // stride), dtype=float).reshape(-(-height // stride), -1) / 1000
    cells[0, 0] = np.nan
    pixels = on_pixels(cells, (height, width), stride)
    for row in range(height):
        for col in range(width):
            cell = cells[row // stride, col // stride]
            assert pixels[row, col] == (-1.0 if np.isnan(cell) else cell)


@given(ours=st.lists(st.floats(0, 1), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_ahead_of_counts_the_draws_that_geoanom_wins(ours: list[float], seed: int) -> None:
    theirs = np.random.default_rng(seed).random(len(ours)).tolist()
    details = [
        {"seed": draw, "method": method, "ap": ap, "auroc": 0.5}
        for draw in range(len(ours))
        for method, ap in (("geoanom", ours[draw]), ("peer", theirs[draw]))
    ]
    champion, peer = summarize(details)
    assert champion.figures["ahead_of"] is None
    assert peer.figures["ahead_of"] == sum(a > b for a, b in zip(ours, theirs, strict=True))
    assert (peer.figures["min AP"], peer.n_runs) == (min(theirs), len(ours))


def test_tables_are_well_formed_and_json_holds_no_nan() -> None:
    rows = (
        Row(method="a|b", figures={"AP": np.float64(0.12345), "n": 3}, n_runs=2),
        Row(method="c", figures={"AP": float("nan"), "AUROC": None}, n_runs=1),
    )
    results = Results(suite="s", settings={"px": np.int64(64)}, rows=rows, details=({"ap": np.float32(0.5)},), tables={"More": rows})
    lines = [line for line in results.markdown().splitlines() if line.startswith("|")]
    assert len(lines) == 8
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {6}
    assert lines[2] == "| a\\|b | 0.123 | 3 | - | 2 |"
    assert lines[3] == "| c | - | - | - | 1 |"
    plain = json.loads(json.dumps(results.to_json(), allow_nan=False))
    assert plain["settings"] == {"px": 64}
    assert plain["rows"][1]["figures"] == {"AP": None, "AUROC": None}
    assert plain["details"] == [{"ap": 0.5}]


def test_rare_tiles_finds_what_is_obvious_and_writes_what_it_prints(
    chip_folder: Path, quick_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, table, values = tmp_path / "c.yaml", tmp_path / "t.md", tmp_path / "t.json"
    config.write_text(dump_config(quick_config))
    asked: list[str | Path] = ["--data", chip_folder.parents[1], "--config", config, "--chip-px", str(SIDE), "--seeds", "1"]
    code, out, err = run(capsys, "benchmark", "rare-tiles", *asked, "-o", table, "--json", values)
    assert (code, err) == (0, "")
    assert table.read_text() == out
    found = json.loads(values.read_text())
    methods = {row["method"]: row["figures"] for row in found["rows"]}
    assert set(methods) == {"geoanom", *(peer.method for peer in peers.CHIP_PEERS), "pixels, global RX", "pixels, local RX"}
    assert methods["geoanom"]["mean AP"] == methods["colour, KNN(5)"]["mean AP"] == 1.0
    assert len(found["details"]) == len(methods)
    code, _, err = run(capsys, "benchmark", "rare-tiles", *asked, "-o", table)
    assert code == 5
    assert_one_line(err, "t.md: exists already", "--overwrite")


def test_hyperspectral_measures_every_method_on_every_scene_by_the_pixels_of_the_heatmap(spectra_folder: Path, tmp_path: Path) -> None:
    sets = ["tiles.size=8", "tiles.stride=2", "embed.zoom=1", "embed.dim=4", "embed.head.hidden=[16]", "embed.training.epochs=1"]
    config = load_config(sets=[*sets, "fit.max_tiles=400", "sources.pixel_space=true"], environ={})
    results = run_suite("hyperspectral", spectra_folder.parent, config, progress=quietly)
    figures = {row.method: row.figures for row in results.rows}
    assert set(figures) == {"geoanom", "global RX", "PCA(10), local RX", "CRD", *(peer.method for peer in peers.PIXEL_PEERS)}
    assert figures["global RX"]["mean AUROC"] == pytest.approx(1.0, abs=0.01)
    assert results.tables["AP on each scene"][1].figures == {"place": figures["global RX"]["mean AP"]}
    detect([spectra_folder / "place.tif"], config, Outputs(heatmap=tmp_path / "h.tif"))
    with rasterio.open(tmp_path / "h.tif") as cells, rasterio.open(spectra_folder / "place_gt.tif") as truth:
        scores, labels = np.kron(cells.read(1), np.ones((2, 2))), truth.read(1)
    assert figures["geoanom"]["mean AUROC"] == pytest.approx(roc_auc_score(labels.ravel(), scores.ravel()), abs=1e-9)
    assert figures["geoanom"]["mean AP"] == pytest.approx(average_precision_score(labels.ravel(), scores.ravel()), abs=1e-9)


def test_no_peers_means_geoanom_alone(chip_folder: Path, quick_config: Config) -> None:
    results = run_suite("rare-tiles", chip_folder.parent, quick_config, seeds=1, peers=False, progress=quietly, chip_px=SIDE)
    assert [row.method for row in results.rows] == ["geoanom"]


def test_bad_data_get_one_line(chip_folder: Path, spectra_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    odd, broken, alone, blank = (tmp_path / name for name in ("odd", "broken", "alone", "blank"))
    shutil.copytree(chip_folder, odd / "rsscn7")
    shutil.copytree(chip_folder / "aGrass", odd / "rsscn7" / "desert")
    shutil.copytree(chip_folder, broken / "rsscn7")
    chip = broken / "rsscn7" / "aGrass" / "00.jpg"
    chip.write_bytes(chip.read_bytes()[:300])
    shutil.copytree(spectra_folder, alone / "had")
    (alone / "had" / "place_gt.tif").unlink()
    shutil.copytree(spectra_folder, blank / "had")
    write_tif(blank / "had" / "place_gt.tif", np.zeros((1, 40, 48), np.uint8))
    nature = tmp_path / "nature"
    shutil.copytree(chip_folder / "aGrass", nature / "rsscn7" / "aGrass")
    cases: list[tuple[str, Path, int, tuple[str, ...]]] = [
        ("rare-tiles", tmp_path / "gone", 4, ("gone: is not a folder",)),
        ("rare-tiles", spectra_folder.parent, 4, ("holds no folder rsscn7",)),
        ("rare-tiles", odd, 4, ("desert: is no class", "name it after")),
        ("rare-tiles", broken, 4, ("00.jpg: cannot be read as an image",)),
        ("rare-tiles", nature, 4, ("both nature and built-up",)),
        ("hyperspectral", alone, 4, ("place.tif: has no ground truth place_gt.tif",)),
        ("hyperspectral", blank, 4, ("place_gt.tif: marks no pixel",)),
        ("rare-tile", odd, 2, ("unknown suite", "did you mean 'rare-tiles'?")),
    ]
    for suite, data, expected, words in cases:
        size = ["--chip-px", str(SIDE)] if suite == "rare-tiles" else []
        code, out, err = run(capsys, "benchmark", suite, "--data", data, *size)
        assert (code, out) == (expected, ""), err
        assert_one_line(err, *words)
    code, _, err = run(capsys, "benchmark", "hyperspectral", "--data", alone, "--chip-px", "64")
    assert code == 2
    assert_one_line(err, "--chip-px", "hyperspectral has no such setting")
    code, _, err = run(capsys, "benchmark", "rare-tiles", "--data", chip_folder.parent, "--chip-px", "64")
    assert code == 4
    assert_one_line(err, "64 are asked for", "smaller --chip-px")


def test_a_raster_is_read_as_it_is_whatever_bands_the_settings_name(spectra_folder: Path) -> None:
    path = spectra_folder / "place.tif"
    with rasterio.open(path) as src:
        assert np.array_equal(read_raster(path, load_config(sets=["bands=[1]"], environ={})), src.read())


@pytest.mark.parametrize("name", SUITES.names())
def test_every_suite_can_be_loaded(name: str) -> None:
    assert callable(SUITES.load(name))
