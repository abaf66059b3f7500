"""A quality raster beside a scene: found by its name, laid over the scene, and obeyed."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasters import TEN_METRES, coordinates, noise, write_raster

from geoanom.config import load_config
from geoanom.errors import SceneError
from geoanom.raster.grid import Window
from geoanom.raster.scene import open_scene

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.config import Config

FLAGS = noise(60, 80) % 8


def configured(qa: str, *sets: str) -> Config:
    return load_config(sets=[f"sources.qa={{{qa}}}", *sets], environ={})


def valid_of(path: Path, config: Config) -> NDArray[np.bool_]:
    scene = open_scene(path, config)
    with closing(scene.open_handle()) as handle:
        pixels = handle.read(Window(row_off=0, col_off=0, height=scene.height, width=scene.width))
    with rasterio.open(path) as src:
        assert np.array_equal(pixels.values, src.read()), "masking changes no value"
    return pixels.valid


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "scene one.tif", coordinates(60, 80))


@pytest.mark.parametrize(
    ("qa", "name"),
    [
        ("suffix: _qa.tif", "scene one_qa.tif"),
        ('path: "masks/{stem}.tif"', "masks/scene one.tif"),
        ('path: "masks/../{stem}.q"', "scene one.q"),
        ("path: flags.tif", "flags.tif"),
    ],
)
def test_the_raster_is_found_and_its_values_rejected(qa: str, name: str, scene: Path) -> None:
    (scene.parent / "masks").mkdir()
    write_raster(scene.parent / name, FLAGS, driver="GTiff")
    assert np.array_equal(valid_of(scene, configured(f"{qa}, reject: [1, 3]")), ~np.isin(FLAGS[0], (1, 3)))
    assert np.array_equal(valid_of(scene, configured(f"{qa}, bits: [0, 2]")), FLAGS[0] & 0b101 == 0)


def test_one_of_several_bands_is_asked(scene: Path) -> None:
    write_raster(scene.with_name("scene one_qa.tif"), np.concatenate([FLAGS * 0, FLAGS]))
    assert np.array_equal(valid_of(scene, configured("suffix: _qa.tif, band: 2, reject: [5]", "bands=[1]")), FLAGS[0] != 5)


def test_what_the_raster_does_not_know_is_masked(scene: Path) -> None:
    write_raster(scene.with_name("scene one_qa.tif"), FLAGS, nodata=2)
    assert np.array_equal(valid_of(scene, configured("suffix: _qa.tif, reject: [5]")), ~np.isin(FLAGS[0], (2, 5)))


def test_a_coarser_raster_that_covers_a_part_masks_the_rest(scene: Path) -> None:
    coarse = FLAGS[:, ::2, ::2][:, :, :30]
    write_raster(scene.with_name("scene one_qa.tif"), coarse, transform=TEN_METRES @ TEN_METRES.scale(2))
    expected = np.zeros((60, 80), bool)
    expected[:, :60] = (coarse[0] != 5).repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(valid_of(scene, configured("suffix: _qa.tif, reject: [5]")), expected)
    write_raster(scene.with_name("scene one_qa.tif"), coarse, transform=TEN_METRES @ TEN_METRES.translation(500, 0))
    with pytest.raises(SceneError, match=r"one_qa\.tif: lies elsewhere than the grid it should have"):
        open_scene(scene, configured("suffix: _qa.tif, reject: [5]"))


def test_classes_of_a_palette_are_numbers_and_not_colours(scene: Path) -> None:
    path = write_raster(scene.with_name("scene one_qa.tif"), FLAGS, photometric="palette")
    with rasterio.open(path, "r+") as dst:
        dst.write_colormap(1, {i: (10 * i, 255, 0, 255) for i in range(8)})
    assert np.array_equal(valid_of(scene, configured("suffix: _qa.tif, reject: [3, 6]")), ~np.isin(FLAGS[0], (3, 6)))


def test_a_mask_without_a_place_is_laid_over_a_scene_of_its_shape(scene: Path) -> None:
    Image.fromarray(FLAGS[0]).save(scene.with_name("scene one.png"))
    config = configured("suffix: .png, reject: [3]")
    assert np.array_equal(valid_of(scene, config), FLAGS[0] != 3)
    assert not open_scene(scene, config).warnings
    Image.fromarray(FLAGS[0, 1:]).save(scene.with_name("scene one.png"))
    with pytest.raises(SceneError, match=r"has no place on the Earth, and 59 x 80 pixels where scene one\.tif has 60 x 80"):
        open_scene(scene, config)


def test_a_missing_raster_is_named(scene: Path) -> None:
    with pytest.raises(SceneError, match=r"scene one\.tif: lacks its quality raster /.*/scene one_qa\.tif; put it there, or change"):
        open_scene(scene, configured("suffix: _qa.tif, reject: [1]"))


def test_a_raster_outside_the_folder_is_used_only_when_the_settings_name_it_in_full(scene: Path, tmp_path: Path) -> None:
    inner = tmp_path / "archive"
    inner.mkdir()
    moved = scene.rename(inner / scene.name)
    outside = write_raster(tmp_path / "flags.tif", FLAGS)
    (inner / "linked_qa.tif").symlink_to(outside)
    for place in ("../flags.tif", "linked_qa.tif"):
        with pytest.raises(SceneError, match=r"has its quality raster outside its folder, at .*; give sources\.qa\.path as an"):
            open_scene(moved, configured(f"path: {place}, reject: [1]"))
    assert np.array_equal(valid_of(moved, configured(f'path: "{outside}", reject: [1]')), FLAGS[0] != 1)


def test_bits_are_asked_of_integers_only(scene: Path) -> None:
    write_raster(scene.with_name("scene one_qa.tif"), FLAGS.astype("float32"))
    with pytest.raises(SceneError, match=r"one_qa\.tif: has no integers, so that no bits of it can be asked for"):
        open_scene(scene, configured("suffix: _qa.tif, bits: [1]"))


def test_a_changed_mask_changes_the_digest_and_is_seen(scene: Path) -> None:
    path = write_raster(scene.with_name("scene one_qa.tif"), FLAGS)
    config = configured("suffix: _qa.tif, reject: [1]")
    first = open_scene(scene, config)
    assert first.digest != open_scene(scene, load_config(environ={})).digest
    write_raster(path, 7 - FLAGS)
    assert open_scene(scene, config).digest != first.digest
    with pytest.raises(SceneError, match="was replaced or changed"):
        first.check_unchanged()
