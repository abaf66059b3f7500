"""Landsat Collection 2 folders: real units, flags, the panchromatic band, and metadata that lie."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from products import REFLECTANCE, Built, write_landsat

from geoanom.config import load_config
from geoanom.errors import ConfigError, SceneError
from geoanom.raster.grid import Window
from geoanom.raster.scene import open_scene
from geoanom.sources.landsat import is_landsat

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.raster.scene import Pixels, Scene


def configured(*sets: str) -> Config:
    return load_config(sets=list(sets), environ={})


def read(scene: Scene, window: Window | None = None) -> Pixels:
    with closing(scene.open_handle()) as handle:
        return handle.read(window or Window(row_off=0, col_off=0, height=scene.height, width=scene.width))


@pytest.fixture(scope="module", params=["L2SP", "L1TP"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, fill_scene: Path) -> Built:
    return write_landsat(tmp_path_factory.mktemp("landsat"), fill_scene, level=request.param)


@pytest.fixture
def copied(tmp_path: Path, fill_scene: Path) -> Path:
    """A level 2 product that a test may spoil."""
    return write_landsat(tmp_path, fill_scene, kinds=("txt",)).path


def prefix(built: Built) -> str:
    return "SR_B" if "L2SP" in built.path.name else "B"


def units(built: Built, counts: NDArray[Any]) -> NDArray[np.float64]:
    scale, offset = REFLECTANCE["L2SP" if "L2SP" in built.path.name else "L1TP"]
    return counts * scale + offset


def edited(product: Path, old: str, new: str) -> Path:
    path = next(product.glob("*_MTL.txt"))
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return product


def test_values_are_real_units_and_the_mask_is_that_of_the_flags(built: Built) -> None:
    scene = open_scene(built.path, configured())
    names = [f"{prefix(built)}{i}" for i in (2, 3, 4, 5)]
    assert [(band.name, band.dtype) for band in scene.bands] == [(name, "float32") for name in names]
    assert (scene.name, scene.datetime) == (built.path.name, "2020-05-18T13:40:43Z")
    pixels = read(scene)
    for values, name in zip(pixels.values, names, strict=True):
        assert np.allclose(values, units(built, built.counts[name]), rtol=1e-6, atol=1e-7)
    data = np.all([built.counts[name] > 0 for name in names], axis=0)
    assert np.array_equal(pixels.valid, data & (built.counts["QA_PIXEL"] & 0b11111 == 0))
    assert 0 < pixels.valid.sum() < data.sum() < data.size


def test_a_count_of_0_is_fill_whatever_the_file_says(copied: Path) -> None:
    with rasterio.open(next(copied.glob("*_SR_B3.TIF")), "r+") as dst:
        counts = dst.read(1)
        counts[190:193, 150] = 0
        dst.write(counts, 1)
        dst.nodata = None
    valid = read(open_scene(copied, configured())).valid
    assert not valid[190:193, 150].any()
    assert valid[190:193, 151].all()


def test_other_bits_mask_other_pixels(built: Built) -> None:
    clouds = read(open_scene(built.path, configured("sources.qa_pixel_bits=[3]"))).valid
    everything = read(open_scene(built.path, configured("sources.qa_pixel_bits=[]"))).valid
    flags = built.counts["QA_PIXEL"]
    assert np.array_equal(clouds, everything & (flags & 8 == 0) & (flags != 1))
    assert clouds.sum() < everything.sum()


def test_both_forms_of_the_metadata_say_the_same(built: Built) -> None:
    by_file = [open_scene(path, configured()) for path in sorted(built.path.glob("*_MTL.*"))]
    assert len(by_file) == 2
    assert {scene.digest for scene in by_file} == {open_scene(built.path, configured()).digest}
    assert {scene.datetime for scene in by_file} == {"2020-05-18T13:40:43Z"}


def test_the_panchromatic_band_brings_all_to_15_metres(tmp_path: Path, fill_scene: Path) -> None:
    built = write_landsat(tmp_path, fill_scene, level="L1TP")
    scene = open_scene(built.path, configured("bands=[B8, B4]", "sources.qa_pixel_bits=[]", "sources.resampling=bilinear"))
    assert (scene.height, scene.width, scene.georef.transform.a) == (400, 400, 15)
    assert [(band.name, band.index) for band in scene.bands] == [("B8", 9), ("B4", 4)]
    pixels = read(scene)
    assert np.allclose(pixels.values[0], np.where(pixels.valid, units(built, built.counts["B8"]), pixels.values[0]), atol=1e-6)
    # every other pixel of 15 m has its centre on one of 30 m, and takes its value
    there = pixels.valid[::2, ::2]
    assert there.sum() > 1000
    assert np.allclose(pixels.values[1, ::2, ::2][there], units(built, built.counts["B4"])[there], atol=1e-6)
    piece = Window(row_off=201, col_off=33, height=90, width=111)
    assert np.array_equal(read(scene, piece).values, pixels.values[:, piece.slices[0], piece.slices[1]])


def test_temperature_has_units_of_its_own(copied: Path, fill_scene: Path, tmp_path: Path) -> None:
    built = write_landsat(tmp_path / "again", fill_scene)
    values = read(open_scene(copied, configured("bands=[B10]"))).values[0]
    assert np.allclose(values, built.counts["ST_B10"] * 0.00341802 + 149.0, rtol=1e-6)
    level1 = write_landsat(tmp_path / "one", fill_scene, level="L1TP")
    values = read(open_scene(level1.path, configured("bands=[B10]"))).values[0]
    assert np.allclose(values, level1.counts["B10"] * 3.3420e-04 + 0.1, rtol=1e-6)


def test_the_default_bands_are_those_of_the_sensor(tmp_path: Path, fill_scene: Path) -> None:
    built = write_landsat(tmp_path, fill_scene, sensor="ETM")
    assert [band.name for band in open_scene(built.path, configured()).bands] == ["SR_B1", "SR_B2", "SR_B3", "SR_B4"]
    with pytest.raises(ConfigError, match="SR_B77"):
        open_scene(built.path, configured("bands=[SR_B77]"))


def test_what_is_a_product_is_told_by_names(built: Built, tmp_path: Path) -> None:
    assert is_landsat(built.path)
    assert all(is_landsat(path) == ("_MTL." in path.name) for path in built.path.iterdir())
    (tmp_path / "scenes").mkdir()
    assert not is_landsat(tmp_path / "scenes")
    for path in (tmp_path / "scenes" / "x.tif", tmp_path / "scenes" / "x_MTL.txt"):
        path.touch()
    assert not is_landsat(tmp_path / "scenes")
    renamed = Path(shutil.copytree(built.path, tmp_path / "any name"))
    assert is_landsat(renamed)
    assert open_scene(renamed, configured()).digest == open_scene(built.path, configured()).digest


def test_what_is_missing_is_named(copied: Path) -> None:
    next(copied.glob("*_SR_B4.TIF")).unlink()
    with pytest.raises(SceneError, match=r"02_T1: lacks the file LC08_.*_SR_B4\.TIF; download it again"):
        open_scene(copied, configured())
    next(copied.glob("*_QA_PIXEL.TIF")).unlink()
    with pytest.raises(SceneError, match=r"lacks the file LC08_.*_QA_PIXEL\.TIF"):
        open_scene(copied, configured("bands=[SR_B2]"))
    next(copied.glob("*_MTL.txt")).unlink()
    with pytest.raises(SceneError, match=r"02_T1: lacks the metadata file \*_MTL\.txt or \*_MTL\.json"):
        open_scene(copied, configured())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("REFLECTANCE_MULT_BAND_3 = 2.75e-05", "REFLECTANCE_MULT_BAND_3 = much", "has no usable REFLECTANCE_MULT_BAND_3"),
        ("REFLECTANCE_MULT_BAND_3 = 2.75e-05", "", "has no scale and offset of SR_B3"),
        ("REFLECTANCE_ADD_BAND_3 = -0.2", "REFLECTANCE_ADD_BAND_3 = inf", "has no usable REFLECTANCE_ADD_BAND_3"),
        ("FILE_NAME_QUALITY_L1_PIXEL", "FILE_NAME_OTHER", r"lists no QA_PIXEL file .* --set 'sources\.qa_pixel_bits=\[\]'"),
        ("PRODUCT_CONTENTS", "FILE_CONTENTS", "metadata without the group PRODUCT_CONTENTS"),
        ("FILE_NAME_BAND_3", "FILE_NAME_3", "lists no file of band 3"),
        ("_SR_B3.TIF", "_SR_B3/../../../x.tif", "names a file outside the product"),
        ('"LC08_L2SP_224078_20200518_20200820_02_T1_SR_B3.TIF"', '"/etc/passwd"', "names a file outside the product, '/etc/passwd'"),
    ],
)
def test_metadata_that_say_nothing_usable_are_refused(old: str, new: str, message: str, copied: Path) -> None:
    with pytest.raises(SceneError, match=message) as caught:
        open_scene(edited(copied, old, new), configured())
    assert "\n" not in str(caught.value)


def test_other_damage_is_one_line(copied: Path, tmp_path: Path) -> None:
    band = next(copied.glob("*_SR_B3.TIF"))
    band.rename(tmp_path / "elsewhere.tif")
    band.symlink_to(tmp_path / "elsewhere.tif")
    with pytest.raises(SceneError, match=r"has a link at .*_SR_B3\.TIF that leads out of the product"):
        open_scene(copied, configured())
    band.unlink()
    band.write_bytes((tmp_path / "elsewhere.tif").read_bytes()[:300])
    with pytest.raises(SceneError, match=r"_SR_B3\.TIF: is truncated"):
        open_scene(copied, configured())
    text = next(copied.glob("*_MTL.txt"))
    text.write_bytes(b"\xff\xfe\0")
    with pytest.raises(SceneError, match=r"has metadata that are not UTF-8, .*_MTL\.txt"):
        open_scene(copied, configured())


@pytest.mark.parametrize("content", ["{", "[]", "{}", json.dumps({"LANDSAT_METADATA_FILE": {"A": 1}}), "[" * 100_000])
def test_json_that_is_none_is_one_line(content: str, copied: Path) -> None:
    text = next(copied.glob("*_MTL.txt"))
    text.unlink()
    text.with_suffix(".json").write_text(content)
    with pytest.raises(SceneError, match="has metadata that cannot be understood"):
        open_scene(copied, configured())
