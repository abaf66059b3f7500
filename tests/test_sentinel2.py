"""Sentinel-2 products: reflectance, masks, bands of other resolutions, and what is made to do harm."""

from __future__ import annotations

import shutil
import stat
import struct
import zipfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from products import METRES, Built, write_jp2, write_safe, zipped

from geoanom.config import load_config
from geoanom.errors import ConfigError, SceneError
from geoanom.raster.blocks import stream_panels
from geoanom.raster.grid import Window
from geoanom.raster.scene import open_scene
from geoanom.sources import sentinel2
from geoanom.sources.sentinel2 import is_safe

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.raster.scene import Pixels, Scene

OFFSETS = {band: -1000 - 10 * i for i, band in enumerate(METRES)}
"""Others in every band, so that a mix-up shows; real products have -1000 in all."""
REJECTED = (0, 1, 3, 8, 9, 10)


def configured(*sets: str) -> Config:
    return load_config(sets=list(sets), environ={})


UNMASKED = configured("sources.scl_reject=[]")


def read(scene: Scene, window: Window | None = None) -> Pixels:
    with closing(scene.open_handle()) as handle:
        return handle.read(window or Window(row_off=0, col_off=0, height=scene.height, width=scene.width))


def reflectance(counts: NDArray[Any], offset: int) -> NDArray[np.float64]:
    return (counts.astype(float) + offset) / 10000


@pytest.fixture(scope="module")
def l2a(tmp_path_factory: pytest.TempPathFactory, sample_scene: Path) -> Built:
    return write_safe(tmp_path_factory.mktemp("safe"), sample_scene, offsets=OFFSETS)


@pytest.fixture
def copied(l2a: Built, tmp_path: Path) -> Path:
    """A copy of the product that a test may spoil."""
    return Path(shutil.copytree(l2a.path, tmp_path / l2a.path.name))


def edited(product: Path, *changes: tuple[str, str], file: str = "MTD_MSIL2A.xml") -> Path:
    text = (product / file).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (product / file).write_text(text)
    return product


def image_of(product: Path, what: str) -> Path:
    return next(product.glob(f"GRANULE/*/IMG_DATA/**/*_{what}.jp2"))


def test_values_are_reflectance_and_the_mask_is_that_of_the_classes(l2a: Built) -> None:
    scene = open_scene(l2a.path, configured())
    names = ["B02", "B03", "B04", "B08"]
    assert [(b.index, b.name, b.dtype) for b in scene.bands] == [(i, n, "float32") for i, n in zip((2, 3, 4, 8), names, strict=True)]
    assert (scene.name, scene.datetime, scene.band_count) == (l2a.path.name, "2022-08-05T15:59:01Z", 12)
    assert scene.georef.transform == l2a.place
    pixels = read(scene)
    for values, name in zip(pixels.values, names, strict=True):
        assert np.allclose(values, reflectance(l2a.counts[name], OFFSETS[name]), rtol=1e-6, atol=1e-7)
    classes = l2a.counts["SCL"].repeat(2, axis=0).repeat(2, axis=1)
    data = np.all([l2a.counts[name] > 0 for name in names], axis=0)
    assert np.array_equal(pixels.valid, data & ~np.isin(classes, REJECTED))
    assert not pixels.valid[:, :12].any()
    assert pixels.valid[160:].any()


def test_reading_by_pieces_is_reading_at_once(l2a: Built) -> None:
    config = configured("bands=[B02, B05, B01]")
    scene = open_scene(l2a.path, config)
    whole = read(scene)
    for top, left in ((0, 0), (37, 101), (128, 128), (239, 239)):
        piece = Window(row_off=top, col_off=left, height=min(70, 240 - top), width=min(90, 240 - left))
        rows, cols = piece.slices
        assert np.array_equal(read(scene, piece).values, whole.values[:, rows, cols])
        assert np.array_equal(read(scene, piece).valid, whole.valid[piece.slices])
    panels = list(stream_panels(scene, config))
    assert np.array_equal(np.concatenate([p.valid for p in panels]), whole.valid)


@pytest.mark.parametrize(("bands", "pixel"), [("B02,B8A,B01", 10), ("B05,B09", 20), ("B01", 60), ("b2,B12", 10)])
def test_bands_come_on_the_finest_grid_among_them(bands: str, pixel: int, l2a: Built) -> None:
    config = configured(f"bands=[{bands}]", "sources.resampling=nearest", "sources.scl_reject=[]")
    scene = open_scene(l2a.path, config)
    names = [sentinel2._folded(band) for band in bands.split(",")]
    assert [band.name for band in scene.bands] == names
    assert (scene.height, scene.georef.transform.a) == (2400 // pixel, pixel)
    for values, name in zip(read(scene).values, names, strict=True):
        times = METRES[str(name)] // pixel
        fine = l2a.counts[str(name)].repeat(times, axis=0).repeat(times, axis=1)
        empty = fine == 0
        assert np.allclose(values[~empty], reflectance(fine, OFFSETS[str(name)])[~empty], rtol=1e-6, atol=1e-7)


def test_numbers_count_the_bands_of_the_product(l2a: Built) -> None:
    scene = open_scene(l2a.path, configured("bands=[8, 4, 9]"))
    assert [band.name for band in scene.bands] == ["B08", "B04", "B8A"]
    with pytest.raises(ConfigError, match="B10"):
        open_scene(l2a.path, configured("bands=[B10]"))


def test_a_zip_gives_the_scene_of_its_folder(l2a: Built, tmp_path: Path) -> None:
    for compress, name in ((zipfile.ZIP_DEFLATED, "product.zip"), (zipfile.ZIP_STORED, "a name with blanks.SAFE.zip")):
        path = zipped(l2a.path, tmp_path / name, compress=compress)
        assert is_safe(path)
        scene, folder = open_scene(path, configured()), open_scene(l2a.path, configured())
        assert (scene.digest, scene.name, scene.bands, scene.datetime) == (folder.digest, folder.name, folder.bands, folder.datetime)
        assert np.array_equal(read(scene).values, read(folder).values)
        assert np.array_equal(read(scene).valid, read(folder).valid)
        scene.check_unchanged()
        path.touch()
        with pytest.raises(SceneError, match="was replaced or changed"):
            scene.check_unchanged()


def test_level_1c_is_read_without_classes(tmp_path: Path, sample_scene: Path) -> None:
    built = write_safe(tmp_path, sample_scene, level="L1C", offsets=OFFSETS)
    scene = open_scene(built.path, configured("bands=[B10, B04]"))
    assert [band.name for band in scene.bands] == ["B10", "B04"]
    assert scene.georef.transform.a == 10
    assert np.allclose(read(scene).values[1], reflectance(built.counts["B04"], OFFSETS["B04"]), rtol=1e-6, atol=1e-7)
    assert open_scene(built.path / "MTD_MSIL1C.xml", configured("bands=[B10, B04]")).digest == scene.digest


def test_before_baseline_4_there_are_no_offsets_and_since_then_they_must_be_there(tmp_path: Path, sample_scene: Path) -> None:
    old = write_safe(tmp_path / "old", sample_scene, baseline="03.01")
    assert np.allclose(read(open_scene(old.path, UNMASKED)).values[0], reflectance(old.counts["B02"], 0), rtol=1e-6)
    new = write_safe(tmp_path / "new", sample_scene, baseline="05.11")
    with pytest.raises(SceneError, match=r"SAFE: lacks BOA_ADD_OFFSET in its metadata, which its processing baseline 05\.11 must have"):
        open_scene(new.path, configured())


def test_what_is_a_product_is_told_by_names(l2a: Built, tmp_path: Path) -> None:
    zipped(l2a.path, tmp_path / "x.zip")
    (tmp_path / "S1A_IW_GRDH.SAFE").mkdir()
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4 nothing")
    (tmp_path / "plain.tif").touch()
    assert is_safe(l2a.path)
    assert is_safe(l2a.path / "MTD_MSIL2A.xml")
    assert {path.name for path in tmp_path.iterdir() if is_safe(path)} == {"x.zip"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("IMG_DATA/R10m/T18SVG_20220805T155901_B04_10m", "IMG_DATA/R10m/T18SVG_20220805T155901_B4_10m"), "lists no image of B04"),
        (("GRANULE/L2A_T18SVG_A037189_20220805T155901/IMG_DATA/R10m", "../elsewhere/IMG_DATA/R10m"), "several granules"),
        (("10000</BOA", "0</BOA"), "has no usable BOA_QUANTIFICATION_VALUE"),
        (("10000</BOA", "nan</BOA"), "has no usable BOA_QUANTIFICATION_VALUE"),
        (('band_id="3"', 'band_id="77"'), "has BOA_ADD_OFFSET of an unknown band 77"),
        ((">-1010<", ">much<"), "has no usable BOA_ADD_OFFSET"),
        (("</n1:General_Info>", ""), r"metadata that are no XML, MTD_MSIL2A\.xml"),
        (("SCL_20m", "XXX_20m"), r"has no scene classification .* --set 'sources\.scl_reject=\[\]'"),
    ],
)
def test_metadata_that_say_nothing_usable_are_refused(change: tuple[str, str], message: str, copied: Path) -> None:
    with pytest.raises(SceneError, match=message) as caught:
        open_scene(edited(copied, change), configured())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["../outside", "/etc", "GRANULE/../../outside", "GRANULE\\\\..\\\\.."])
def test_images_outside_the_product_are_never_opened(where: str, copied: Path, tmp_path: Path) -> None:
    shutil.copytree(copied / "GRANULE", tmp_path / "outside")
    text = (copied / "MTD_MSIL2A.xml").read_text().replace("<IMAGE_FILE>GRANULE/", f"<IMAGE_FILE>{where}/")
    (copied / "MTD_MSIL2A.xml").write_text(text)
    with pytest.raises(SceneError, match="SAFE: names a file outside the product"):
        open_scene(copied, configured())


def test_a_link_out_of_the_product_is_not_followed(copied: Path, tmp_path: Path) -> None:
    image = image_of(copied, "B03_10m")
    image.rename(tmp_path / "elsewhere.jp2")
    image.symlink_to(tmp_path / "elsewhere.jp2")
    with pytest.raises(SceneError, match=r"has a link at .*B03_10m\.jp2 that leads out of the product"):
        open_scene(copied, configured())


def test_entities_are_refused_before_they_grow(copied: Path) -> None:
    laughs = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    edited(copied, ("<n1:Level-2A_User_Product", f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]>\n<n1:Level-2A_User_Product'))
    with pytest.raises(SceneError, match=r"has declarations in MTD_MSIL2A\.xml, which can do harm"):
        open_scene(copied, configured())
    metadata = copied / "MTD_MSIL2A.xml"
    metadata.write_bytes(metadata.read_text().replace('encoding="UTF-8"', 'encoding="UTF-16"').encode("utf-16"))
    with pytest.raises(SceneError, match="has metadata that are not UTF-8"):
        open_scene(copied, configured())


def test_what_is_missing_is_named(copied: Path) -> None:
    image_of(copied, "B08_10m").unlink()
    with pytest.raises(SceneError, match=r"SAFE: lacks the file GRANULE/.*_B08_10m\.jp2; download it again"):
        open_scene(copied, configured())
    (copied / "MTD_MSIL2A.xml").unlink()
    with pytest.raises(SceneError, match=r"SAFE: lacks the metadata file MTD_MSIL2A\.xml or MTD_MSIL1C\.xml"):
        open_scene(copied, configured())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("as_zip", [False, True])
def test_a_truncated_image_is_refused_by_name(share: float, *, as_zip: bool, copied: Path, tmp_path: Path) -> None:
    image = image_of(copied, "B04_10m")
    image.write_bytes(image.read_bytes()[: int(share * image.stat().st_size)])
    product = zipped(copied, tmp_path / "product.zip") if as_zip else copied
    with pytest.raises(SceneError, match=r"B04_10m\.jp2: is (truncated: the end of its image is missing|empty)"):
        open_scene(product, configured())


def test_an_image_of_another_kind_is_refused(copied: Path, small_scene: Path) -> None:
    shutil.copy(small_scene, image_of(copied, "B04_10m"))
    with pytest.raises(SceneError, match=r"B04_10m\.jp2: is not a JPEG 2000 file, whatever its name says"):
        open_scene(copied, configured())


def tile_parts(content: bytearray) -> list[tuple[int, int]]:
    """Offset and length of the tile-parts of a JPEG 2000 file."""
    place, found = content.index(b"\xff\x90\x00\x0a"), []
    while content[place : place + 2] == b"\xff\x90":
        (length,) = struct.unpack_from(">I", content, place + 6)
        found.append((place, length))
        place += length
    return found


def spoil_header(content: bytearray) -> None:
    place, length = tile_parts(content)[1]
    content[place + 12 : place + length] = b"\xff\x91" * (length // 2 - 6) + b"\0" * (length % 2)


def spoil_marker(content: bytearray) -> None:
    content[tile_parts(content)[1][0]] = 0


def spoil_number(content: bytearray) -> None:
    content[tile_parts(content)[1][0] + 5] = 0


@pytest.mark.parametrize("spoil", [spoil_header, spoil_marker, spoil_number])
def test_an_image_whose_tiles_are_not_all_there_is_refused(spoil: Callable[[bytearray], None], copied: Path) -> None:
    (copied / "manifest.safe").unlink()
    image = image_of(copied, "B04_10m")
    content = bytearray(image.read_bytes())
    spoil(content)
    assert len(content) == image.stat().st_size
    image.write_bytes(content)
    with pytest.raises(SceneError, match=r"B04_10m\.jp2: is damaged: (the header of|a tile|its tiles|it has 1 of 2)"):
        open_scene(copied, configured())


@pytest.mark.parametrize("as_zip", [False, True])
def test_damage_that_decodes_is_told_by_the_manifest(*, as_zip: bool, copied: Path, tmp_path: Path) -> None:
    image = image_of(copied, "B04_10m")
    content = bytearray(image.read_bytes())
    place, length = tile_parts(content)[1]
    content[place + length // 2 : place + length] = b"\xff" * (length - length // 2)
    image.write_bytes(content)
    product = zipped(copied, tmp_path / "product.zip") if as_zip else copied
    with pytest.raises(SceneError, match=r"B04_10m\.jp2: is damaged: its checksum is not that of manifest\.safe; download it again"):
        open_scene(product, configured())
    assert open_scene(product, configured("bands=[B02]")).width == 240
    (copied / "manifest.safe").unlink()
    assert not np.array_equal(read(open_scene(copied, configured("bands=[B04]"))).values, 0), "without the manifest nothing tells"


def test_a_replaced_image_is_an_error(copied: Path) -> None:
    scene = open_scene(copied, configured())
    image = image_of(copied, "SCL_20m")
    with rasterio.open(image) as src:
        counts, place = src.read(1), src.transform
    write_jp2(copied / "new.jp2", counts, place, "EPSG:32618").replace(image)
    with pytest.raises(SceneError, match="was replaced or changed"):
        scene.check_unchanged()


def test_the_digest_is_that_of_what_is_read(l2a: Built, copied: Path) -> None:
    digest = open_scene(l2a.path, configured()).digest
    (copied / "manifest.safe").unlink()
    assert open_scene(copied, configured()).digest == digest
    assert open_scene(copied, UNMASKED).digest != digest
    assert open_scene(copied, configured("bands=[B02,B03,B08,B04]")).digest != digest
    edited(copied, (">-1010<", ">-1011<"))
    assert open_scene(copied, configured()).digest != digest


def member(name: str, *, mode: int = 0o100644, flags: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.flag_bits = flags
    return info


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (lambda z: z.writestr(member("../evil.jp2"), b"x"), r"names a file outside the product, '\.\./evil\.jp2'"),
        (lambda z: z.writestr(member("/etc/evil"), b"x"), "names a file outside the product, '/etc/evil'"),
        (lambda z: z.writestr(member("P.SAFE/a/../../evil"), b"x"), "names a file outside the product"),
        (lambda z: z.writestr(member("P.SAFE/link.jp2", mode=stat.S_IFLNK | 0o777), b"/etc/passwd"), r"holds a link, P\.SAFE/link\.jp2"),
        (lambda z: [z.writestr(member(f"P.SAFE/{i}"), b"") for i in range(10_001)], "is a zip of 10003 files or more, the limit is 10000"),
        (lambda z: z.writestr(member("other/file"), b"x"), "does not hold one folder"),
    ],
    ids=["climbing", "absolute", "climbing inside", "link", "too many", "two folders"],
)
def test_zips_made_to_do_harm_are_refused(extra: Callable[[zipfile.ZipFile], Any], message: str, l2a: Built, tmp_path: Path) -> None:
    path = tmp_path / "S2A_MSIL2A_evil.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(l2a.path / "MTD_MSIL2A.xml", "P.SAFE/MTD_MSIL2A.xml")
        archive.write(l2a.path / "manifest.safe", "P.SAFE/manifest.safe")
        extra(archive)
    with pytest.raises(SceneError, match=message):
        open_scene(path, configured())
    assert not (tmp_path / "evil.jp2").exists()


def test_a_bomb_is_not_unpacked(copied: Path, tmp_path: Path) -> None:
    image_of(copied, "B02_10m").write_bytes(b"\0" * 50_000_000)
    path = zipped(copied, tmp_path / "S2A_MSIL2A_bomb.zip")
    with pytest.raises(SceneError, match=r"holds .*_B02_10m\.jp2, which \d+ bytes claim to unpack to 50000000"):
        open_scene(path, configured())
    with (copied / "MTD_MSIL2A.xml").open("ab") as file:
        file.write(b" " * 40_000_000)
    path = zipped(copied, tmp_path / "S2A_MSIL2A_bomb2.zip")
    with pytest.raises(SceneError, match=r"holds MTD_MSIL2A\.xml, which \d+ bytes claim to unpack to"):
        open_scene(path, configured())
    with pytest.raises(SceneError, match=r"has metadata of more than 33554432 bytes in MTD_MSIL2A\.xml"):
        open_scene(copied, configured())


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_truncated_zip_is_one_line(share: float, l2a: Built, tmp_path: Path) -> None:
    path = zipped(l2a.path, tmp_path / "S2A_MSIL2A_short.zip")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(SceneError, match=r"short\.zip: is a damaged or truncated zip"):
        open_scene(path, configured())


def test_a_flipped_byte_in_a_zip_is_found(l2a: Built, tmp_path: Path) -> None:
    path = zipped(l2a.path, tmp_path / "S2A_MSIL2A_flipped.zip", compress=zipfile.ZIP_STORED)
    with zipfile.ZipFile(path) as archive:
        info = next(i for i in archive.infolist() if i.filename.endswith("B03_10m.jp2"))
    content = bytearray(path.read_bytes())
    content[info.header_offset + 2000] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(SceneError, match=r"B03_10m\.jp2: is truncated, damaged or no raster \(Bad CRC-32"):
        open_scene(path, configured())
