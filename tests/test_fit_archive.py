"""One model for many scenes: bounded, whatever their order, and resumed after an interruption."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import signal
import time
import tracemalloc
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.windows import Window
from rasters import noise, write_raster

from geoanom.config import load_config
from geoanom.errors import OutputError
from geoanom.model.bundle import save_model
from geoanom.model.fitting import fit_model
from geoanom.model.partials import Partials, discard, partial_folder
from geoanom.model.radiometry import fit_radiometry
from geoanom.model.sampling import wanted_blocks
from geoanom.pipeline import fit
from geoanom.raster.normalize import QUANTILES, pooled_percentiles
from geoanom.raster.scene import open_scene
from geoanom.sources.array import array_scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.model import Model
    from geoanom.raster.scene import Handle, Scene

QUICK = [
    "tiles.size=32",
    "embed.backbone=spectrum",
    "embed.dim=4",
    "embed.head.hidden=[8]",
    "embed.training.epochs=1",
    "normalize.sample_pixels=5000",
    "fit.max_tiles=507",
    "fit.min_tiles=8",
    "fit.fold_tiles=2",
    "runtime.threads=1",
    "runtime.reader_threads=1",
]


def settings(*sets: str) -> Config:
    return load_config(sets=[*QUICK, *sets], environ={})


@pytest.fixture(scope="module")
def paths(sample_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four small real scenes."""
    folder = tmp_path_factory.mktemp("archive")
    with rasterio.open(sample_scene) as src:
        crops = [src.read(window=Window(100 + 128 * i, 300, 128, 128)) for i in range(4)]
    return [write_raster(folder / f"{i}.tif", crop, block=64) for i, crop in enumerate(crops)]


def bundle_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def undisturbed(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a model that was fitted in one go, and without partial results."""
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(fit(paths, settings()), folder)
    return bundle_of(folder)


@pytest.fixture(scope="module")
def fitted(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """A model of two scenes, and the partial results of its fit."""
    folder = tmp_path_factory.mktemp("fitted") / "model.partial"
    return fit(paths[:2], settings(), folder), folder


@pytest.fixture
def partial_results(fitted: tuple[Model, Path], tmp_path: Path) -> Path:
    """A copy of the partial results."""
    return Path(shutil.copytree(fitted[1], tmp_path / "model.partial"))


# ---- statistics of any number of scenes

columns = arrays(np.float64, st.tuples(st.integers(1, 9), st.just(2)), elements=st.floats(-1e6, 1e6))


@given(tables=st.lists(columns, min_size=1, max_size=5), percents=st.tuples(st.floats(0, 100), st.floats(0, 100)))
def test_pooled_percentiles_are_those_of_all_rows_together(tables: list[NDArray[np.float64]], percents: tuple[float, float]) -> None:
    np.testing.assert_array_equal(pooled_percentiles(lambda: tables, percents), np.percentile(np.concatenate(tables), percents, axis=0))


def peak_bytes(work: Callable[[], Any]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_pooled_percentiles_of_many_scenes_need_the_memory_of_few() -> None:
    def tables(n: int) -> Iterator[NDArray[np.float64]]:
        return (np.sort(np.random.default_rng(i).normal(size=(len(QUANTILES), 4)), axis=0) for i in range(n))

    few, many = (peak_bytes(partial(pooled_percentiles, partial(tables, n), (1.0, 99.0))) for n in (2, 40))
    assert many < 1.2 * few


def test_the_first_pass_over_many_scenes_needs_the_memory_of_a_few(tmp_path: Path) -> None:
    config, scenes = settings(), [array_scene(noise(32, 32, 2, seed=i), name=str(i)) for i in range(40)]
    few, many = (peak_bytes(partial(fit_radiometry, scenes[:n], config, Partials(tmp_path / str(n)))) for n in (4, 40))
    assert many < 1.2 * few


# ---- the sample


def blank(i: int, side: int = 400) -> Scene:
    return array_scene(np.full((1, side, side), i, np.uint16), name=str(i))


@given(n_scenes=st.integers(1, 12), limit=st.integers(1, 2000), seed=st.integers(0, 5))
def test_the_wanted_blocks_are_those_with_the_smallest_numbers_of_all_scenes(n_scenes: int, limit: int, seed: int) -> None:
    scenes, config = [blank(i) for i in range(n_scenes)], settings(f"seed={seed}")
    grid = scenes[0].grid(config)
    shape = (-(-grid.n_rows // grid.block_tiles), -(-grid.n_cols // grid.block_tiles))
    draws = np.stack([np.random.default_rng((seed, int(scene.digest[:15], 16))).random(shape) for scene in scenes])
    n_wanted = min(draws.size, max(1, limit // grid.block_tiles**2))
    masks = np.zeros(draws.shape, bool)
    masks.ravel()[np.argsort(draws, axis=None)[:n_wanted]] = True
    found = dict(wanted_blocks(scenes, config, limit))
    assert found.keys() == set(np.flatnonzero(masks.any(axis=(1, 2))).tolist())
    for place, mask in found.items():
        np.testing.assert_array_equal(mask, masks[place])


def counted(scene: Scene, opened: list[str]) -> Scene:
    """The scene, which tells when it is opened."""

    def open_handle() -> Handle:
        opened.append(scene.name)
        return scene.open_handle()

    return replace(scene, open_handle=open_handle)


def test_a_scene_without_a_chosen_block_is_read_in_the_first_pass_only(paths: list[Path]) -> None:
    config = settings()
    opened: list[str] = []
    scenes = sorted((open_scene(path, config) for path in paths), key=lambda scene: scene.digest)
    chosen = [scenes[place].name for place, _ in wanted_blocks(scenes, config, config.fit.max_tiles)]
    assert len(chosen) < len(scenes)
    fit_model([counted(scene, opened) for scene in scenes], config)
    assert {name: opened.count(name) for name in set(opened)} == {s.name: 1 + (s.name in chosen) for s in scenes}


def test_a_model_is_the_same_for_any_order_of_its_scenes(paths: list[Path], undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(len(paths))
    save_model(fit([paths[i] for i in order], settings(), tmp_path / "model.partial"), tmp_path / "model")
    assert bundle_of(tmp_path / "model") == undisturbed


def test_a_fit_on_many_scenes_needs_the_memory_of_a_few() -> None:
    config = settings()
    scenes = [array_scene(noise(96, 96, 2, seed=i), name=str(i)) for i in range(40)]
    fit_model(scenes[:2], config)
    few, many = (peak_bytes(partial(fit_model, scenes[:n], config)) for n in (4, 40))
    assert many < 1.15 * few


# ---- resuming


class UnreadableHandle:
    """What must not be asked."""

    def read(self, window: object) -> Any:
        raise AssertionError(f"read {window}")

    def close(self) -> None:
        """Nothing to give back."""


@pytest.mark.parametrize(
    "sets",
    [
        ["normalize.per=scene", "fit.max_tiles=999"],
        ["embed.backbone=efficientnet_lite0", "embed.zoom=1", "embed.head.kind=triplet", "fit.max_tiles=999"],
    ],
)
def test_a_fit_that_is_repeated_reads_no_pixel_twice(sets: list[str], paths: list[Path], tmp_path: Path) -> None:
    config = settings(*sets)
    scenes = [open_scene(path, config) for path in paths[:1]]
    unsampled = np.zeros((128, 128), bool)
    unsampled[:9, :9] = True  # a scene in which no tile is usable
    scenes.append(array_scene(noise(128, 128, 4).astype(np.uint16), valid=unsampled))
    first = fit_model(scenes, config, tmp_path / "model.partial")
    again = fit_model([replace(scene, open_handle=UnreadableHandle) for scene in scenes], config, tmp_path / "model.partial")
    assert again.model_id == first.model_id == fit_model(scenes, config).model_id


@pytest.mark.parametrize(
    ("changed", "kinds"),
    [
        ("seed=1", {"quantiles", "sample"}),
        ("normalize.high_percentile=98", {"sample"}),
        ("fit.min_tiles=9", set()),
    ],
)
def test_what_was_made_with_other_settings_is_not_used(changed: str, kinds: set[str], paths: list[Path], partial_results: Path) -> None:
    before = {path.name for path in partial_results.iterdir()}
    model = fit(paths[:2], settings(changed), partial_results)
    assert {path.name.partition("-")[0] for path in partial_results.iterdir() if path.name not in before} == kinds
    assert model.model_id == fit(paths[:2], settings(changed)).model_id


def test_a_replaced_scene_is_computed_again(paths: list[Path], partial_results: Path) -> None:
    others = [paths[0], paths[2]]
    assert fit(others, settings(), partial_results).model_id == fit(others, settings()).model_id


def test_a_partial_result_that_cannot_be_read_is_computed_again(
    paths: list[Path], fitted: tuple[Model, Path], partial_results: Path
) -> None:
    for path in partial_results.iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    assert fit(paths[:2], settings(), partial_results).model_id == fitted[0].model_id


def test_saving_the_model_removes_its_partial_results_and_nothing_else(
    fitted: tuple[Model, Path], partial_results: Path, tmp_path: Path
) -> None:
    assert partial_folder(tmp_path / "model") == partial_results
    (partial_results / ".quantiles-0123456789abcdef0123456789abcdef.safetensors.x1").mkdir()
    (partial_results / "notes.txt").write_text("mine")
    save_model(fitted[0], tmp_path / "model")
    assert [path.name for path in partial_results.iterdir()] == ["notes.txt"]
    (partial_results / "notes.txt").unlink()
    discard(partial_results)
    discard(partial_results)
    assert not partial_results.exists()


def test_partial_results_that_cannot_be_written_stop_the_fit_by_name(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "model.partial").write_text("a file stands here")
    with pytest.raises(OutputError, match=r"model\.partial.*could not be written|model\.partial: cannot be a folder"):
        fit(paths[:2], settings(), tmp_path / "model.partial")


def fit_and_save(paths: list[Path], model: Path) -> None:
    """What `geoanom fit` does."""
    save_model(fit(paths, settings(), partial_folder(model)), model)


def test_a_fit_that_is_killed_at_any_moment_and_repeated_gives_the_same_bytes(
    paths: list[Path], undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["geoanom.pipeline", "geoanom.embed.spectrum", __name__])
    seed, kills, model = int(time.time()), 0, tmp_path / "model"
    rng = np.random.default_rng(seed)
    for n_before in sorted(rng.integers(0, len(paths) + 3, 4).tolist()):
        process = context.Process(target=fit_and_save, args=(paths, model))
        process.start()
        while process.is_alive() and len(list(partial_folder(model).glob("[!.]*"))) < n_before:
            time.sleep(0.001)
        time.sleep(float(rng.uniform(0, 0.2)))
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), f"random moments of seed {seed}"
    fit_and_save(paths, model)
    assert kills > 0
    assert bundle_of(model) == undisturbed, f"random moments of seed {seed}"
    assert not partial_folder(model).exists()
