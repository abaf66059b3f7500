"""A scene of an archive never makes the program reach the network, or a file outside the archive."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from rasters import noise, write_raster
from servers import Site, http_site

from geoanom.config import Config, load_config
from geoanom.errors import SceneError
from geoanom.raster.grid import Window
from geoanom.raster.scene import open_scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIDE_PX = 64
SECRET = 250
"""The value of all pixels outside; noise has none of it."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with http_site() as one:
        yield one


@pytest.fixture
def outside(tmp_path: Path, site: Site) -> Path:
    """A folder beside the archive with what no scene may reach; the same is served on loopback."""
    folder = tmp_path / "outside"
    folder.mkdir()
    secret = np.full((1, SIDE_PX, SIDE_PX), SECRET, np.uint8)
    site.put("secret.tif", write_raster(folder / "secret.tif", secret).read_bytes())
    (folder / "secret.bin").write_bytes(secret.tobytes())
    site.forget()
    return folder


def vrt(source: str) -> str:
    band = f'<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename>{source}</SourceFilename></SimpleSource></VRTRasterBand>'
    place = "<SRS>EPSG:32633</SRS><GeoTransform>500000,10,0,5000000,0,-10</GeoTransform>"
    return f'<VRTDataset rasterXSize="{SIDE_PX}" rasterYSize="{SIDE_PX}">{place}{band}</VRTDataset>'


def a_vrt_named_tif(archive: Path, target: str) -> Path:
    (archive / "x.tif").write_text(vrt(target))
    return archive / "x.tif"


def a_wms_named_tif(archive: Path, target: str) -> Path:
    size = "<DataWindow><SizeX>64</SizeX><SizeY>64</SizeY></DataWindow>"
    (archive / "x.tif").write_text(f'<GDAL_WMS><Service name="TMS"><ServerUrl>{target}</ServerUrl></Service>{size}</GDAL_WMS>')
    return archive / "x.tif"


def plain(archive: Path) -> Path:
    return write_raster(archive / "x.tif", noise(SIDE_PX, SIDE_PX))


def overviews_elsewhere(archive: Path, target: str) -> Path:
    path = plain(archive)
    with rasterio.open(path, "r+") as dst:
        dst.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=target)
    return path


def a_sidecar_that_names_overviews(archive: Path, target: str) -> Path:
    text = f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{target}</MDI></Metadata></PAMDataset>'
    (archive / "x.tif.aux.xml").write_text(text)
    return plain(archive)


def a_mask_that_is_a_vrt(archive: Path, target: str) -> Path:
    (archive / "x.tif.msk").write_text(vrt(target))
    return plain(archive)


def overviews_that_are_a_vrt(archive: Path, target: str) -> Path:
    (archive / "x.tif.ovr").write_text(vrt(target))
    return plain(archive)


def an_envi_header_that_names_another_file(archive: Path, target: str) -> Path:
    path = write_raster(archive / "x.img", noise(SIDE_PX, SIDE_PX), driver="ENVI")
    with (archive / "x.hdr").open("a") as header:
        header.write(f"data file = {target}\nfile name = {target}\nspectra names = {{{target}}}\nclass names = {{{target}}}\n")
    return path


def an_item(archive: Path, target: str) -> Path:
    asset = {"href": target, "type": "image/tiff; application=geotiff", "roles": ["data"]}
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "x", "properties": {}, "links": [], "assets": {"b": asset}}
    (archive / "x.json").write_text(json.dumps(item))
    return archive / "x.json"


def an_item_with_its_root_outside(archive: Path, target: str) -> Path:
    path = an_item(archive, target)
    item = json.loads(path.read_text())
    item["links"] = [{"rel": rel, "href": href} for rel in ("root", "parent", "self") for href in (target, "/", "../../../../../")]
    path.write_text(json.dumps(item))
    return path


MAKERS = [
    a_vrt_named_tif,
    a_wms_named_tif,
    overviews_elsewhere,
    a_sidecar_that_names_overviews,
    a_mask_that_is_a_vrt,
    overviews_that_are_a_vrt,
    an_envi_header_that_names_another_file,
    an_item,
    an_item_with_its_root_outside,
]
READ_AS_THEY_ARE = {a_sidecar_that_names_overviews, a_mask_that_is_a_vrt, overviews_that_are_a_vrt, an_envi_header_that_names_another_file}
"""What names another file is of no effect; all others are refused."""
TARGETS = [
    "{url}/secret.tif",
    "/vsicurl/{url}/secret.tif",
    "/vsicurl_streaming/{url}/secret.tif",
    "{outside}/secret.tif",
    "file://{outside}/secret.tif",
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("make", MAKERS)
def test_nothing_outside_is_reached(make: Callable[[Path, str], Path], target: str, tmp_path: Path, outside: Path, site: Site) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    path = make(archive, target.format(url=site.url, outside=outside))
    if make in READ_AS_THEY_ARE:
        scene = open_scene(path, Config())
        with closing(scene.open_handle()) as handle:
            pixels = handle.read(Window(row_off=0, col_off=0, height=SIDE_PX, width=SIDE_PX))
        assert np.array_equal(pixels.values, noise(SIDE_PX, SIDE_PX))
        assert pixels.valid.all()
    else:
        with pytest.raises(SceneError):
            open_scene(path, Config())
    assert site.hits == []


def test_the_server_would_have_counted(site: Site, outside: Path) -> None:
    assert outside
    scene = open_scene(f"{site.url}/secret.tif", load_config(sets=["sources.allow=[remote]"], environ={}))
    assert (scene.height, scene.width) == (SIDE_PX, SIDE_PX)
    assert site.hits


def test_a_mask_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path, outside: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    path = plain(archive)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(outside / "other.tif", "w", **rasterio.open(path).profile) as dst:
        dst.write_mask(np.zeros((SIDE_PX, SIDE_PX), np.uint8))
    (archive / "x.tif.msk").symlink_to(outside / "other.tif.msk")
    with pytest.raises(SceneError, match=r"x\.tif: is read with x\.tif\.msk, which lies outside its folder; put that file itself"):
        open_scene(path, Config())


def test_a_mask_beside_the_file_is_content(tmp_path: Path) -> None:
    path, digests = plain(tmp_path), set()
    for value in (255, 0):
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dst:
            dst.write_mask(np.full((SIDE_PX, SIDE_PX), value, np.uint8))
        assert (tmp_path / "x.tif.msk").is_file()
        digests.add(open_scene(path, Config()).digest)
    assert len(digests) == 2


def test_links_beside_a_link_are_followed(tmp_path: Path, outside: Path) -> None:
    path = write_raster(outside / "x.img", noise(SIDE_PX, SIDE_PX), driver="ENVI")
    for name in ("store", "archive"):
        (tmp_path / name).mkdir()
    (outside / "x.hdr").rename(tmp_path / "store/other.hdr")
    (tmp_path / "archive/x.img").symlink_to(path)
    (tmp_path / "archive/x.hdr").symlink_to(tmp_path / "store/other.hdr")
    scene = open_scene(tmp_path / "archive/x.img", Config())
    assert (scene.height, scene.width) == (SIDE_PX, SIDE_PX)


def test_pixels_in_a_second_file_are_not_taken_from_outside(tmp_path: Path, outside: Path) -> None:
    """An Imagine file names the file that holds its pixels, here one of the same make outside."""
    archive = tmp_path / "archive"
    archive.mkdir()
    target = "../outside/secret.ige"
    name = "x" * (len(target) - 4)
    write_raster(outside / "secret.img", np.full((1, SIDE_PX, SIDE_PX), SECRET, np.uint8), driver="HFA", USE_SPILL="YES")
    path = write_raster(archive / f"{name}.img", noise(SIDE_PX, SIDE_PX), driver="HFA", USE_SPILL="YES")
    assert open_scene(path, Config()).height == SIDE_PX
    content = path.read_bytes()
    assert f"{name}.ige".encode() in content
    path.write_bytes(content.replace(f"{name}.ige".encode(), target.encode()))
    with rasterio.open(path) as src:
        assert (src.read() == SECRET).all(), "GDAL itself follows the name"
    with pytest.raises(SceneError, match=r"is read with secret\.ige, which lies outside its folder"):
        open_scene(path, Config())
