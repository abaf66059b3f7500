"""The suite of change on small pairs, and its peers against closed forms."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import chi2, kstest
from sklearn.metrics import average_precision_score, roc_auc_score
from test_cli import assert_one_line, run

from geoanom.change.run import change
from geoanom.config import load_config
from geoanom.errors import InputError
from geoanom.evaluate.benchmark import run_suite
from geoanom.evaluate.change_peers import alteration, change_scores, change_vectors
from geoanom.evaluate.suites import change as suite
from geoanom.pipeline import Outputs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.evaluate.results import Results

SIDE = 96
UTM = "EPSG:32651"


def silent(items: Iterable[Any], /, **_: Any) -> Iterable[Any]:
    return items


@pytest.fixture(scope="module")
def pair_data(sample_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One pair of each set, laid out as the benchmark's data, with a square that became brighter."""
    folder = tmp_path_factory.mktemp("data")
    with rasterio.open(sample_scene) as src:
        land = src.read()[:, 300 : 300 + SIDE, 300 : 300 + SIDE].astype(np.float64)
    changed = np.zeros((SIDE, SIDE), np.uint8)
    changed[40:56, 24:40] = 1
    rng = np.random.default_rng(1)
    dates = [land + rng.normal(0, 15, land.shape) + later * changed * 3 * land.std(axis=(1, 2))[:, None, None] for later in (0, 1)]
    (folder / "oscd").mkdir()
    for name, values in (("here_1", dates[0]), ("here_2", dates[1]), ("here_change", changed[None])):
        write_tif(folder / "oscd" / f"{name}.tif", np.rint(values).clip(0).astype(np.uint16), "GTiff")
    place = folder / "sztaki" / "there"
    place.mkdir(parents=True)
    for name, values in (("im1", dates[0]), ("im2", dates[1])):
        Image.fromarray(np.moveaxis(values[:3] / 16, 0, -1).clip(0, 255).astype(np.uint8)).save(place / f"{name}.bmp")
    Image.fromarray(changed * 255).save(place / "gt.bmp")
    (folder / "taizhou").mkdir()
    for name, values in (("2000TM", dates[0]), ("2003TM", dates[1])):
        write_tif(folder / "taizhou" / name, (values / 16).clip(0, 255).astype(np.uint8), "ENVI")
    unchanged = np.zeros_like(changed)
    unchanged[:20] = 255
    for name, mask in (("change", changed * 255), ("unchanged", unchanged)):
        Image.fromarray(mask).save(folder / "taizhou" / f"{name}.bmp")
    return folder


def write_tif(path: Path, values: NDArray[Any], driver: str) -> None:
    transform = rasterio.Affine(10, 0, 300_000, 0, -10, 3_600_000)
    profile = {"count": len(values), "height": values.shape[1], "width": values.shape[2], "crs": UTM, "transform": transform}
    with rasterio.open(path, "w", driver=driver, dtype=values.dtype, **profile) as dst:
        dst.write(values)


@pytest.fixture(scope="module")
def results(pair_data: Path) -> Results:
    """One run over all pairs."""
    return run_suite("change", pair_data, load_config(environ={}), progress=silent)


def test_every_method_is_measured_on_every_pair_and_sets_count_the_same(results: Results) -> None:
    methods = [row.method for row in results.rows]
    assert methods[0] == "geoanom"
    assert len(methods) == 7
    assert [(d["set"], d["pair"]) for d in results.details if d["method"] == "geoanom"] == [
        ("oscd", "here"),
        ("sztaki", "there"),
        ("taizhou", "taizhou"),
    ]
    assert len(results.details) == 3 * len(methods)
    for row in results.rows:
        own = [d["AP"] for d in results.details if d["method"] == row.method]
        assert row.figures["AP, mean of sets"] == pytest.approx(np.mean(own))
        assert row.figures["AP, mean of pairs"] == pytest.approx(np.mean(own))
    assert all(d["AP"] > 0.5 for d in results.details if d["method"] == "geoanom")
    text = results.markdown()
    for title in ("AP on each set", "AUROC on each set", "AP on each pair", "AUROC on each pair"):
        assert f"### {title}" in text


def test_the_measured_map_is_the_one_in_the_heatmap_of_change(pair_data: Path, results: Results, tmp_path: Path) -> None:
    """Only pixels that are known to have changed or not count."""
    before, after = (pair_data / "taizhou" / name for name in ("2000TM", "2003TM"))
    change(before, after, load_config(environ={}), Outputs(heatmap=tmp_path / "heat.tif"))
    with rasterio.open(tmp_path / "heat.tif") as src:
        field = src.read(2).astype(np.float64)
    changed, unchanged = (np.asarray(Image.open(pair_data / "taizhou" / f"{name}.bmp")) > 0 for name in ("change", "unchanged"))
    known = changed | unchanged
    (record,) = [d for d in results.details if (d["set"], d["method"]) == ("taizhou", "geoanom")]
    assert record["AP"] == pytest.approx(average_precision_score(changed[known], field[known]))
    assert record["AUROC"] == pytest.approx(roc_auc_score(changed[known], field[known]))


def test_sets_that_are_not_there_are_left_out_and_incomplete_ones_refused(pair_data: Path, tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    with pytest.raises(InputError, match="holds no pairs of dates in oscd, sztaki, taizhou"):
        suite.find_known(tmp_path)
    shutil.copytree(pair_data / "oscd", tmp_path / "truth" / "oscd")
    assert [pair.name for pair in suite.find_known(tmp_path)] == ["here"]
    (tmp_path / "truth" / "oscd" / "here_change.tif").unlink()
    with pytest.raises(InputError, match=r"has no here_change\.tif beside it"):
        suite.find_known(tmp_path)


def test_truth_of_another_size_is_refused(pair_data: Path, plain_config: Config, tmp_path: Path) -> None:
    shutil.copytree(pair_data / "oscd", tmp_path / "oscd")
    write_tif(tmp_path / "oscd" / "here_change.tif", np.ones((1, SIDE, SIDE - 1), np.uint8), "GTiff")
    with pytest.raises(InputError, match=f"is of \\({SIDE}, {SIDE - 1}\\) pixels"):
        run_suite("change", tmp_path, plain_config, peers=False, progress=silent)


def test_the_command_prints_tables_and_keeps_measurements(pair_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(pair_data / "taizhou", tmp_path / "taizhou")
    code, out, _ = run(capsys, "benchmark", "change", "--data", tmp_path, "--no-peers", "--json", tmp_path / "found.json")
    assert code == 0
    assert out.startswith("## change\n")
    assert [d["method"] for d in json.loads((tmp_path / "found.json").read_text())["details"]] == ["geoanom"]
    shutil.rmtree(tmp_path / "taizhou")
    code, _, err = run(capsys, "benchmark", "change", "--data", tmp_path)
    assert code == 4
    assert_one_line(err, "holds no pairs of dates")


# Peers


@settings(max_examples=15)
@given(seed=st.integers(0, 999), gain=st.floats(0.1, 10), offset=st.floats(-100, 100))
def test_light_is_no_change_to_any_peer(seed: int, gain: float, offset: float) -> None:
    image = np.random.default_rng(seed).normal(0, 1, (3, 20, 24))
    assert change_vectors(image, gain * image + offset) == pytest.approx(0, abs=1e-9)


def test_peers_rank_a_changed_place_first() -> None:
    rng = np.random.default_rng(2)
    before = rng.normal(0, 1, (3, 40, 50))
    after = before + rng.normal(0, 0.3, before.shape)
    after[:, 10:20, 10:20] += np.array([4.0, -3.0, 2.0])[:, None, None]
    inside = np.zeros((40, 50), bool)
    inside[12:18, 12:18] = True
    for method, field in change_scores(before, after).items():
        assert field.shape == (40, 50)
        assert (field >= 0).all(), method
        assert roc_auc_score(inside.ravel(), field.ravel()) > 0.9, method


@settings(max_examples=8)
@given(seed=st.integers(0, 999))
def test_plain_alteration_is_chi_squared_without_change_and_blind_to_affine_maps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = np.einsum("ij,jrc->irc", rng.normal(size=(3, 3)) + 2 * np.eye(3), rng.normal(size=(3, 60, 60)))
    after = before + rng.normal(0, 1, before.shape)
    found = alteration(before, after, rounds=1)
    assert kstest(found.ravel(), chi2(3).cdf).statistic < 0.05
    mixed = np.einsum("ij,jrc->irc", rng.normal(size=(3, 3)) + 3 * np.eye(3), after) + 7
    assert alteration(before, mixed, rounds=1) == pytest.approx(found, rel=1e-3, abs=1e-3)
