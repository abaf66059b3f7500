"""Opening: what is taken, what is refused, and in which words."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import tifffile
from conftest import SHARED
from PIL import Image
from rasterio.control import GroundControlPoint
from rasters import TEN_METRES, UTM, break_block, coordinates, edit, noise, whole, write_raster

from geoanom.config import Config, load_config
from geoanom.errors import ConfigError, GeoanomError, SceneError
from geoanom.raster.blocks import stream_panels
from geoanom.raster.scene import open_scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

FORMATS = sorted(p for p in (SHARED / "formats").rglob("*") if p.is_file()) if SHARED.is_dir() else []
ABSENT = [pytest.param(None, marks=pytest.mark.skip(reason=f"needs the shared data in {SHARED}, which is not here"))]
TOO_LONG_TO_DECODE = "s1_grd_constant_25788x16685.tiff"


def configured(*sets: str) -> Config:
    return load_config(sets=sets, environ={})


def values_of(path: Path, config: Config) -> NDArray[Any]:
    return np.concatenate([panel.values for panel in stream_panels(open_scene(path, config), config)], axis=1)


def rows_or_error(path: Path, config: Config) -> int | GeoanomError:
    """Rows streamed, or the error that geoanom raised on purpose."""
    try:
        scene = open_scene(path, config)
        rows = 0 if path.name == TOO_LONG_TO_DECODE else sum(panel.window.height for panel in stream_panels(scene, config))
    except GeoanomError as error:
        return error
    assert scene.georef.is_pixel_space == (scene.georef.crs is None)
    assert config.sources.pixel_space or not scene.georef.is_pixel_space
    return rows or scene.height


@pytest.mark.parametrize("pixel_space", [False, True], ids=["placed", "pixel space"])
@pytest.mark.parametrize("path", FORMATS or ABSENT, ids=lambda p: p.name if p else "absent")
def test_every_file_is_read_whole_or_refused_in_one_clear_line(path: Path, pixel_space: bool) -> None:  # noqa: FBT001
    got = rows_or_error(path, configured(f"sources.pixel_space={pixel_space}"))
    if isinstance(got, GeoanomError):
        assert str(got).startswith(f"{path}: {got.wrong}; {got.remedy}")
        assert got.wrong
        assert got.remedy
        assert "\n" not in str(got)
    else:
        with rasterio.open(path) as src:
            assert got == src.height


def test_a_scene_is_what_an_independent_reader_reads(sample_scene: Path) -> None:
    assert np.array_equal(values_of(sample_scene, Config()), np.moveaxis(tifffile.imread(sample_scene), -1, 0).reshape(4, 1024, 1024))


def a_fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.tif")
    return folder / "pipe.tif"


def an_empty_file(folder: Path) -> Path:
    (folder / "empty.tif").touch()
    return folder / "empty.tif"


def a_text(folder: Path) -> Path:
    (folder / "text.tif").write_text("These are no pixels.\n")
    return folder / "text.tif"


def a_vrt_named_tif(folder: Path) -> Path:
    (folder / "vrt.tif").write_text('<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>')
    return folder / "vrt.tif"


def a_header_only(folder: Path) -> Path:
    whole_file = write_raster(folder / "header.tif", noise(64, 64)).read_bytes()
    (folder / "header.tif").write_bytes(whole_file[:30])
    return folder / "header.tif"


def an_overview_elsewhere(folder: Path) -> Path:
    path = write_raster(folder / "elsewhere.tif", noise(64, 64))
    with rasterio.open(path, "r+") as dst:
        dst.update_tags(ns="OVERVIEWS", OVERVIEW_FILE="/vsicurl/http://localhost/x.tif")
    return path


def many_bands(folder: Path) -> Path:
    return write_raster(folder / "bands.tif", np.ones((1001, 2, 2), np.uint8))


def a_huge_block(folder: Path) -> Path:
    path = folder / "block.tif"
    shape = {"height": 30_000, "width": 30_000, "count": 1, "dtype": "uint8", "blockysize": 30_000, "compress": "deflate"}
    with rasterio.open(path, "w", driver="GTiff", crs=UTM, transform=TEN_METRES, sparse_ok=True, **shape):
        return path


def a_huge_pixel(folder: Path) -> Path:
    """Blocks of 16 MB a band, all bands of a pixel together."""
    path = folder / "pixel.tif"
    shape = {"height": 4096, "width": 4096, "count": 40, "dtype": "uint8", "blockxsize": 4096, "blockysize": 4096, "tiled": True}
    with rasterio.open(path, "w", driver="GTiff", crs=UTM, transform=TEN_METRES, sparse_ok=True, interleave="pixel", **shape):
        return path


def no_crs(folder: Path) -> Path:
    return write_raster(folder / "nowhere.tif", noise(64, 64), crs=None)


def no_transform(folder: Path) -> Path:
    return write_raster(folder / "identity.tif", noise(64, 64), transform=None)


def a_flat_transform(folder: Path) -> Path:
    return write_raster(folder / "flat.tif", noise(64, 64), transform=rasterio.Affine(10, 10, 0, 10, 10, 0))


def rpc_only(folder: Path) -> Path:
    line = dict.fromkeys(("LINE_OFF", "SAMP_OFF", "LAT_OFF", "LONG_OFF", "HEIGHT_OFF"), "1")
    line |= dict.fromkeys(("LINE_SCALE", "SAMP_SCALE", "LAT_SCALE", "LONG_SCALE", "HEIGHT_SCALE"), "1")
    ones = " ".join(["1"] * 20)
    line |= dict.fromkeys(("LINE_NUM_COEFF", "LINE_DEN_COEFF", "SAMP_NUM_COEFF", "SAMP_DEN_COEFF"), ones)
    path = write_raster(folder / "rpc.tif", noise(64, 64), crs=None)
    with rasterio.open(path, "r+") as dst:
        dst.update_tags(ns="RPC", **line)
    return path


def on_mars(folder: Path) -> Path:
    return write_raster(folder / "mars.tif", noise(64, 64), crs="+proj=eqc +R=3396190 +units=m")


def in_a_local_system(folder: Path) -> Path:
    return write_raster(folder / "local.tif", noise(64, 64), crs='LOCAL_CS["site grid",UNIT["metre",1]]')


def on_one_line(folder: Path) -> Path:
    points = [GroundControlPoint(row=10 * i, col=20 * i, x=10 + i, y=50 + i) for i in range(4)]
    return write_raster(folder / "line.tif", noise(64, 64), gcps=points, crs="EPSG:4326")


def a_short_envi(folder: Path) -> Path:
    path = write_raster(folder / "short.img", noise(64, 64, 3), driver="ENVI")
    os.truncate(path, 64 * 64 * 3 - 1)
    return path


def a_short_png(folder: Path) -> Path:
    Image.fromarray(noise(64, 64)[0]).save(folder / "short.png")
    os.truncate(folder / "short.png", 3000)
    return folder / "short.png"


def a_short_jpeg(folder: Path) -> Path:
    Image.fromarray(noise(64, 64)[0]).save(folder / "short.jpg")
    os.truncate(folder / "short.jpg", 2000)
    return folder / "short.jpg"


REFUSALS = {
    a_fifo: "is not a regular file",
    an_empty_file: "is empty (0 bytes)",
    a_text: "is not a raster of a known format, whatever its name says",
    a_vrt_named_tif: "is not a raster of a known format, whatever its name says",
    a_header_only: "is truncated, damaged or no raster",
    an_overview_elsewhere: "carries an OVERVIEW_FILE tag",
    many_bands: "has 1001 bands, the limit is 1000",
    a_huge_block: "has blocks of 30000 x 30000 pixels (858 MB)",
    a_huge_pixel: "has blocks of 4096 x 4096 pixels (640 MB)",
    no_crs: "has no coordinate reference system",
    no_transform: "has a coordinate reference system but no transform",
    a_flat_transform: "has a transform that cannot be inverted",
    rpc_only: "has only rational polynomial coefficients",
    on_mars: "is not on the Earth",
    in_a_local_system: "has a local coordinate system (site grid)",
    on_one_line: "has ground control points that are too few or on one line",
    a_short_envi: "is truncated: it has 12287 bytes, its pixels need 12288",
    a_short_png: "is truncated: the mark of its end is missing",
    a_short_jpeg: "is truncated: the mark of its end is missing",
    Path: "is a directory",
    lambda folder: folder / "missing.tif": "does not exist",
    lambda folder: folder / "nul\0.tif": "cannot be reached (embedded null byte)",
    lambda folder: folder / ("x" * 300): "cannot be reached (File name too long)",
}


@pytest.mark.parametrize(("make", "wrong"), REFUSALS.items(), ids=REFUSALS.values())
def test_what_cannot_be_a_scene_is_refused_by_name_with_a_way_out(make: Callable[[Path], Path], wrong: str, tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(SceneError) as caught:
        open_scene(path, Config())
    assert caught.value.subject == str(path)
    assert caught.value.wrong.startswith(wrong)
    assert caught.value.remedy


@pytest.mark.parametrize("make", [no_crs, no_transform, a_flat_transform, rpc_only, on_mars, in_a_local_system, on_one_line])
def test_a_scene_without_a_place_is_opened_in_pixel_space_on_request_and_says_so(make: Callable[[Path], Path], tmp_path: Path) -> None:
    scene = open_scene(make(tmp_path), configured("sources.pixel_space=true"))
    assert scene.georef.is_pixel_space
    assert scene.resolution_m is None
    assert "scored in pixel space: the layer has pixel coordinates and no place on the Earth" in scene.warnings


@pytest.mark.parametrize("uri", ["https://localhost/x.tif", "s3://bucket/x.tif", "/vsicurl/http://localhost/x.tif", "/vsizip/x.zip/y.tif"])
def test_remote_and_virtual_paths_are_refused(uri: str) -> None:
    with pytest.raises(SceneError, match="remote and virtual paths are not opened; download the file"):
        open_scene(uri, Config())


def test_a_file_that_may_not_be_read_is_refused() -> None:
    code = (
        "import os, sys; from geoanom.errors import SceneError; from geoanom.sources.checks import check_local_path\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: check_local_path(sys.argv[1])\n"
        "except SceneError as error: print(error.wrong)"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = write_raster(Path(folder) / "closed.tif", noise(20, 20))
        path.chmod(0)
        run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "may not be read"


def test_a_vrt_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    write_raster(tmp_path / "part.tif", coordinates(40, 50))
    vrt = tmp_path / "part.vrt"
    source = '<SimpleSource><SourceFilename relativeToVRT="1">part.tif</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
    place = "<SRS>EPSG:32633</SRS><GeoTransform>500000,10,0,5000000,0,-10</GeoTransform>"
    band = f'<VRTRasterBand dataType="UInt32" band="1">{source}</VRTRasterBand>'
    vrt.write_text(f'<VRTDataset rasterXSize="50" rasterYSize="40">{place}{band}</VRTDataset>')
    with pytest.raises(SceneError, match=r"part\.vrt: VRT files can refer to any other file; allow them with"):
        open_scene(vrt, Config())
    code = (
        "import sys; from geoanom.raster.environ import lock_down; lock_down(allow_vrt=True)\n"
        "from geoanom.config import load_config; from geoanom.raster.scene import open_scene\n"
        "from geoanom.raster.blocks import stream_panels\n"
        "config = load_config(sets=['sources.allow=[vrt]'], environ={})\n"
        "scene = open_scene(sys.argv[1], config); print(scene.digest, sum(int(p.values.sum()) for p in stream_panels(scene, config)))"
    )

    def digest_and_sum() -> list[str]:
        run = subprocess.run([sys.executable, "-c", code, str(vrt)], capture_output=True, text=True, check=True)
        assert run.stderr == ""
        return run.stdout.split()

    first = digest_and_sum()
    assert int(first[1]) == coordinates(40, 50).sum()
    write_raster(tmp_path / "part.tif", coordinates(40, 50) + 1)
    assert digest_and_sum()[0] != first[0], "the digest of a VRT covers the files it refers to"


def test_a_palette_image_is_read_as_its_colours(tmp_path: Path) -> None:
    indexes = noise(30, 40)
    path = write_raster(tmp_path / "palette.tif", indexes, photometric="palette")
    with rasterio.open(path, "r+") as dst:
        dst.write_colormap(1, {i: (i, 255 - i, i // 2, 255) for i in range(256)})
    scene = open_scene(path, Config())
    assert [(band.index, band.name) for band in scene.bands] == [(1, "palette red"), (2, "palette green"), (3, "palette blue")]
    assert scene.band_count == 3
    colours = np.concatenate([indexes, 255 - indexes, indexes // 2])
    assert np.array_equal(values_of(path, Config()), colours)
    assert np.array_equal(values_of(path, configured("bands=[1,2,3]")), colours)
    assert np.array_equal(values_of(path, configured("bands=[3,1]")), colours[[2, 0]])


def test_bands_come_in_the_order_in_which_they_were_asked_for(small_scene: Path) -> None:
    scene = open_scene(small_scene, configured("bands=[4,1]"))
    assert [band.index for band in scene.bands] == [4, 1]
    assert scene.band_count == 4
    assert np.array_equal(values_of(small_scene, configured("bands=[4,1]")), whole(small_scene)[[3, 0]])


@pytest.mark.parametrize("band", [0, 5, 99])
def test_a_band_that_the_file_lacks_is_a_usage_error(band: int, small_scene: Path) -> None:
    with pytest.raises(ConfigError, match=f"small.tif: has 4 bands, and band {band} was asked for"):
        open_scene(small_scene, configured(f"bands=[{band}]"))


def test_a_file_in_another_alphabet_is_opened(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "latin.tif", noise(20, 20))
    with rasterio.open(path, "r+") as dst:
        dst.update_tags(TIFFTAG_IMAGEDESCRIPTION="Geb##ude", TIFFTAG_DATETIME="2020:05:06 07:08:09")
        dst.set_band_description(1, "n@@her")
    path.write_bytes(path.read_bytes().replace(b"##", b"\xe4\xfc").replace(b"@@", b"\xe4\xfc"))
    scene = open_scene(path, Config())
    assert scene.bands[0].name == "band 1"
    assert scene.datetime == "2020-05-06T07:08:09Z"


def test_a_scene_that_is_deleted_before_it_is_read_is_an_error_of_that_scene(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "gone.tif", noise(20, 20))
    scene = open_scene(path, Config())
    path.unlink()
    with pytest.raises(SceneError, match=r"gone\.tif: cannot be opened again"):
        list(stream_panels(scene, Config()))


def test_the_pixels_of_a_replaced_file_are_those_of_the_new_one(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "scene.tif", coordinates(50, 60))
    first = values_of(path, Config())
    write_raster(tmp_path / "other.tif", coordinates(50, 60) + 7).replace(path)
    assert np.array_equal(values_of(path, Config()), first + 7)


def test_the_digest_is_that_of_the_bytes(small_scene: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.tif"
    copy.write_bytes(small_scene.read_bytes())
    assert open_scene(copy, Config()).digest == open_scene(small_scene, Config()).digest
    with copy.open("ab") as file:
        file.write(b"\0")
    assert open_scene(copy, Config()).digest != open_scene(small_scene, Config()).digest


def test_a_complex_integer_scene_bears_a_damaged_block(tmp_path: Path) -> None:
    truth = (noise(256, 256) + 1j * noise(256, 256, seed=1)).astype("complex64")
    path = write_raster(tmp_path / "slc.tif", truth, dtype="complex_int16", block=64, compress="deflate")
    (panel,) = stream_panels(open_scene(break_block(path, 0, 1), Config()), Config())
    assert panel.valid.sum() == 256 * 256 - 64 * 64
    assert np.allclose(panel.values[:, panel.valid], np.abs(truth)[:, panel.valid])


def test_nothing_is_said_of_georeferences_but_by_geoanom_itself(tmp_path: Path) -> None:
    Image.fromarray(noise(64, 64)[0]).save(tmp_path / "plain.png")
    code = (
        "import sys; from geoanom.config import load_config; from geoanom.raster.scene import open_scene\n"
        "from geoanom.raster.blocks import stream_panels\n"
        "c = load_config(sets=['sources.pixel_space=true'], environ={}); print(len(list(stream_panels(open_scene(sys.argv[1], c), c))))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "plain.png")], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("1\n", "")


def test_a_name_of_gdals_own_syntax_is_only_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_raster(tmp_path / "secret.tif", noise(20, 20, seed=1))
    write_raster(tmp_path / "GTIFF_DIR:1:secret.tif", noise(20, 20))
    assert np.array_equal(values_of(Path("GTIFF_DIR:1:secret.tif"), Config()), noise(20, 20))


def test_scale_of_a_band_that_is_not_used_changes_nothing(tmp_path: Path) -> None:
    path = edit(write_raster(tmp_path / "scaled.tif", noise(20, 20, 2)), scales=[1.0, 0.5], offsets=[0.0, 3.0])
    values = values_of(path, configured("bands=[1]"))
    assert values.dtype == np.uint8
    assert np.array_equal(values, noise(20, 20, 2)[:1])
