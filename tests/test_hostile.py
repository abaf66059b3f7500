"""One archive with a hostile file of every kind: each gets its state and its reason, the good ones the layers that they have without them.

The lines of the house's list of what must not happen silently, one by one, are in test_masks, test_fill, test_georef, test_atomic,
test_prefetch, test_blocks, test_sources and test_lockdown; here they meet, with the limits, and with what only a forger makes.
"""

from __future__ import annotations

import ast
import os
import shutil
import struct
import tracemalloc
import zipfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from archives import SAMPLE, layers, make_scenes, manifest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from products import write_landsat, write_safe, zipped
from rasters import TEN_METRES, break_block, edit, noise, write_raster
from servers import Site, http_site

from geoanom import pipeline
from geoanom.archive.archive import run_archive
from geoanom.config import Config, load_config
from geoanom.errors import GeoanomError, SceneError
from geoanom.model.bundle import save_model
from geoanom.raster.blocks import stream_panels
from geoanom.raster.fill import find_border_fill
from geoanom.raster.scene import open_scene
from geoanom.sources.catalog import find_scenes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from servers import Handler

    from geoanom.raster.grid import Window
    from geoanom.raster.scene import Handle, Pixels, Scene

Tag = tuple[int, int, int, bytes]
"""Number, type, count and bytes of the values of a TIFF tag."""
SHORT, LONG, DOUBLE = 3, 4, 12
PLACE: list[Tag] = [
    (33550, DOUBLE, 3, struct.pack("<3d", 10, 10, 0)),
    (33922, DOUBLE, 6, struct.pack("<6d", 0, 0, 0, 500_000, 5_000_000, 0)),
    (34735, SHORT, 16, struct.pack("<16H", 1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)),
]


def forged(path: Path, height: int, width: int, *, bands: int = 1, tile: int | None = None, rows: int = 1, blocks: int = 1) -> Path:
    """A TIFF of a few hundred bytes that claims whatever its header can say."""
    numbers = {256: width, 257: height, **({322: tile, 323: tile} if tile else {278: rows})}
    tags = [(tag, LONG, 1, struct.pack("<I", value)) for tag, value in numbers.items()]
    tags += [(tag, SHORT, 1, struct.pack("<H", value)) for tag, value in {258: 8, 259: 1, 262: 1, 277: bands}.items()]
    tags += [(tag, LONG, blocks, struct.pack("<I", value)) for tag, value in {324 if tile else 273: 8, 325 if tile else 279: 16}.items()]
    tags = sorted([*tags, *PLACE])
    entries, values, start = b"", b"\0" * 64, 8 + 2 + 12 * len(tags) + 4
    for tag, kind, count, raw in tags:
        inline = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack("<I", start + len(values))
        entries += struct.pack("<HHI", tag, kind, count) + inline
        values += raw if len(raw) > 4 else b""
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + values)
    return path


FORGERIES: dict[str, tuple[dict[str, int], str]] = {
    "2^31 rows and columns": ({"height": 2**31 - 1, "width": 2**31 - 1, "blocks": 2**31 - 1}, "claims 2147483647 x 2147483647 pixels"),
    "2^32 columns": ({"height": 1, "width": 2**32 - 1}, "is truncated, damaged or no raster"),
    "more tiles than numbers": ({"height": 2**31 - 1, "width": 2**31 - 1, "tile": 16, "blocks": 2**32 - 1}, "is truncated, damaged"),
    "a row of a gigabyte": ({"height": 4, "width": 2**30, "blocks": 4}, "has blocks of 1 x 1073741824 pixels (1024 MB)"),
    "65 535 bands": ({"height": 16, "width": 16, "bands": 65_535, "rows": 16}, "has 65535 bands, the limit is 1000"),
    "49 million tiles": (
        {"height": 112_000, "width": 112_000, "tile": 16, "blocks": 49_000_000},
        "is truncated: its 338 bytes cannot even",
    ),
    "40 million strips": ({"height": 40_000_000, "width": 8, "blocks": 40_000_000}, "is truncated: its 326 bytes cannot even list the"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_claims_without_measure_are_refused_before_the_first_read(name: str, tmp_path: Path) -> None:
    claims, wrong = FORGERIES[name]
    with pytest.raises(SceneError) as caught:
        open_scene(forged(tmp_path / "x.tif", **claims), Config())
    assert caught.value.wrong.startswith(wrong)
    assert caught.value.remedy


def test_a_small_forgery_that_claims_what_is_there_is_opened(tmp_path: Path) -> None:
    scene = open_scene(forged(tmp_path / "x.tif", 4, 4, rows=4), Config())
    assert (scene.height, scene.width, len(scene.bands)) == (4, 4, 1)


def configured(*sets: str) -> Config:
    return load_config(sets=sets, environ={})


def some_bands(folder: Path) -> Path:
    return write_raster(folder / "x.tif", noise(64, 64, 3))


def two_megabytes_a_block(folder: Path) -> Path:
    return write_raster(folder / "x.tif", noise(1024, 1024, 2), block=1024)


def two_megabytes_of_rows(folder: Path) -> Path:
    return write_raster(folder / "x.tif", noise(256, 8192), block=64)


def one_block_of_sixteen_lost(folder: Path) -> Path:
    return break_block(write_raster(folder / "x.tif", noise(256, 256), block=64, compress="deflate"), 1, 2)


def one_block_of_sixteen_cut_off(folder: Path) -> Path:
    path = write_raster(folder / "x.tif", noise(256, 256), block=64)
    os.truncate(path, path.stat().st_size - 1)
    return path


LIMITS: list[tuple[Callable[[Path], Path], str, float, float, str]] = [
    (some_bands, "max_bands", 3, 2, "has 3 bands, the limit is 2"),
    (two_megabytes_a_block, "max_block_mb", 2, 1, r"has blocks of 1024 x 1024 pixels \(2 MB\)"),
    (two_megabytes_of_rows, "max_strip_mb", 2, 1, "the limit is 1 MB"),
    (one_block_of_sixteen_lost, "max_damaged_fraction", 1 / 16, 1 / 17, "is damaged: 1 blocks could not be decoded"),
    (one_block_of_sixteen_cut_off, "max_damaged_fraction", 1 / 16, 1 / 17, "is truncated: 1 of 16 blocks lie beyond the end of the file"),
]


@pytest.mark.parametrize(("make", "setting", "borne", "refused", "wrong"), LIMITS, ids=[row[0].__name__ for row in LIMITS])
def test_a_limit_bears_what_it_says_and_nothing_more(
    make: Callable[[Path], Path], setting: str, borne: float, refused: float, wrong: str, tmp_path: Path
) -> None:
    path = make(tmp_path)
    assert pixels_of(path, configured(f"sources.{setting}={borne}")) == whole_size(path)
    with pytest.raises(SceneError, match=wrong) as caught:
        pixels_of(path, configured(f"sources.{setting}={refused}"))
    assert f"sources.{setting}" in caught.value.remedy


def pixels_of(path: Path | str, config: Config) -> int:
    """How many pixels a pass gives."""
    return sum(panel.valid.size for panel in stream_panels(open_scene(path, config), config))


def whole_size(path: Path) -> int:
    with rasterio.open(path) as src:
        return int(src.height * src.width)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with http_site() as one:
        yield one


def test_pixels_that_do_not_come_in_time_are_an_error(site: Site, tmp_path: Path) -> None:
    path = two_megabytes_of_rows(tmp_path)
    url, allowed = site.put("x.tif", path.read_bytes()), "sources.allow=[remote]"
    assert pixels_of(url, configured(allowed, "sources.read_timeout_s=60")) == whole_size(path)
    config = configured(allowed, "sources.read_timeout_s=0.3")
    scene = open_scene(url, config)
    site.rules["x.tif"] = stuck
    with pytest.raises(SceneError, match=r"x\.tif: (gave no pixels for 0\.3 s|did not answer|cannot be reached)"):
        list(stream_panels(scene, config))


def stuck(handler: Handler) -> bool:
    """The rule that answers when the test is over."""
    handler.server.site.released.wait(60)
    return False


LAYOUTS: dict[str, dict[str, Any]] = {
    "tiled": {"block": 32, "compress": "deflate"},
    "strips": {"interleave": "band"},
    "lzw": {"compress": "lzw", "predictor": 2},
    "jpeg": {"block": 32, "compress": "jpeg"},
    "big": {"BIGTIFF": "YES", "mask": noise(96, 96)[0]},
    "zstd": {"block": 16, "compress": "zstd", "nodata": 3},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=60)
@given(
    edits=st.lists(st.tuples(st.integers(0, 1500), st.sampled_from([0, 1, 127, 128, 255])), min_size=1, max_size=12), cut=st.floats(0, 4)
)
def test_no_bytes_in_a_header_break_the_program(layout: str, edits: list[tuple[int, int]], cut: float, tmp_path: Path) -> None:
    """What is forged is read in full measure, or refused by an error that is raised on purpose; limits keep its cost small."""
    whole = tmp_path / "whole.tif"
    if not whole.exists():
        write_raster(whole, noise(96, 96, 3), **LAYOUTS[layout])
    raw = bytearray(whole.read_bytes())
    for place, value in edits:
        raw[place % len(raw)] = value
    (tmp_path / "x.tif").write_bytes(raw[: max(1, int(cut * len(raw)))])
    config = configured("sources.max_block_mb=16", "sources.max_strip_mb=64", "sources.max_bands=16")
    told = ""
    try:
        scene = open_scene(tmp_path / "x.tif", config)
        for panel in stream_panels(scene, config):
            assert panel.values.shape == (len(scene.bands), *panel.valid.shape)
            assert np.isfinite(panel.values[:, panel.valid]).all()
    except GeoanomError as error:
        told = str(error)
    assert not told or told.startswith(f"{tmp_path / 'x.tif'}: ")
    assert "\n" not in told


@dataclass
class Watched:
    """A handle that notes what is read."""

    handle: Handle
    read_px: list[int]

    def read(self, window: Window) -> Pixels:
        """Note the window and read it."""
        self.read_px.append(window.height * window.width)
        return self.handle.read(window)

    def close(self) -> None:
        """Close."""
        self.handle.close()


def watched(scene: Scene) -> tuple[Scene, list[int]]:
    """The scene, and the pixels of each window that is read of it."""
    read_px: list[int] = []
    return replace(scene, open_handle=lambda: Watched(scene.open_handle(), read_px)), read_px


@pytest.mark.parametrize(("side", "block", "share"), [(512, 128, 1 / 4), (1024, 64, 1 / 6), (1024, 16, 1 / 6)])
@pytest.mark.parametrize(("row", "col"), [(0, 0), (0, -70), (-70, 0), (-70, -70)])
def test_the_look_for_fill_reads_a_small_part_and_sees_every_corner(
    row: int, col: int, side: int, block: int, share: float, tmp_path: Path
) -> None:
    """What is remote is fetched once more for it."""
    pixels = noise(side, side)
    pixels[0, row : row + 70 or None, col : col + 70 or None] = 0
    scene, read_px = watched(open_scene(write_raster(tmp_path / "x.tif", pixels, block=block), Config()))
    assert find_border_fill(scene) == (0,)
    assert 0 < sum(read_px) <= share * side**2


def a_jpeg2000(folder: Path, *, edit: Callable[[bytearray], None]) -> Path:
    path = write_raster(folder / "x.jp2", noise(96, 96), driver="JP2OpenJPEG")
    raw = bytearray(path.read_bytes())
    edit(raw)
    path.write_bytes(raw)
    return path


def claim_tiles(raw: bytearray) -> None:
    """Claim four million tiles of a pixel each (SIZ, ISO/IEC 15444-1 A.5.1)."""
    struct.pack_into(">8I", raw, raw.index(b"\xff\x4f\xff\x51") + 8, 2048, 2048, 0, 0, 1, 1, 0, 0)


def claim_a_box(raw: bytearray) -> None:
    """Claim that the box behind the signature has nearly 2^64 bytes."""
    struct.pack_into(">I", raw, 12, 1)
    struct.pack_into(">Q", raw, 20, 2**64 - 1)


@pytest.mark.parametrize("edit", [claim_tiles, claim_a_box])
def test_a_forged_jpeg2000_is_refused_and_costs_no_memory(edit: Callable[[bytearray], None], tmp_path: Path) -> None:
    path = a_jpeg2000(tmp_path, edit=edit)
    tracemalloc.start()
    try:
        with pytest.raises(SceneError, match=r"x\.jp2: is (damaged|truncated)"):
            open_scene(path, Config())
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_a_projection_that_gdal_cannot_read_refuses_the_scene(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "x.img", noise(64, 64), driver="HFA")
    raw = path.read_bytes()
    assert b"pcunits," in raw  # a name of the type that holds the projection
    path.write_bytes(raw.replace(b"pcunits,", b"pc\xffnits,"))
    with pytest.raises(SceneError, match=r"x\.img: "):
        open_scene(path, Config())


def test_a_link_to_itself_costs_itself(tmp_path: Path, good: Path) -> None:
    shutil.copytree(good, tmp_path / "archive")
    (tmp_path / "archive" / "loop.tif").symlink_to("loop.tif")
    assert len(find_scenes(str(tmp_path / "archive"), Config()).entries) == 4


def test_a_link_to_itself_in_a_product_costs_the_product(tmp_path: Path, shared_data: Path) -> None:
    root = write_landsat(tmp_path, shared_data / "scenes" / "l8_224078_fill0.tif").path
    band = next(root.glob("*_SR_B3.TIF"))
    band.unlink()
    band.symlink_to(band.name)
    with pytest.raises(SceneError):
        open_scene(root, Config())


@pytest.mark.parametrize("length", [240, 255])
def test_a_long_name_is_a_name(length: int, tmp_path: Path) -> None:
    path = write_raster(tmp_path / "x.tif", noise(64, 64)).rename(tmp_path / ("n" * (length - 4) + ".tif"))
    assert open_scene(path, Config()).height == 64


TREACHEROUS = {"stats", "statistics", "shapes", "rasterize", "reproject", "WarpedVRT", "MemoryFile"}
"""What gives zeros or garbage on damaged files without a word, or reads a file past its checks."""


@pytest.mark.parametrize("room", ["raster", "sources", "model", "archive"])
def test_nothing_reads_a_raster_behind_the_back_of_the_checks(room: str) -> None:
    calls = {
        getattr(node.func, "attr", getattr(node.func, "id", ""))
        for path in (ROOT / "geoanom" / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
    }
    assert len(calls) > 20
    assert not calls & TREACHEROUS


SECRET = 250


@dataclass
class Ground:
    """An archive, and what lies beside it that nothing in it may reach."""

    archive: Path
    outside: Path
    url: str
    made: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Path of each hostile scene to its state and to what its reason says."""

    def add(self, name: str, wrong: str, state: str = "refused") -> Path:
        """Expect this of a scene; returns where to put it."""
        self.made[name] = (state, wrong)
        return self.archive / name

    def secrets(self) -> list[Path]:
        """What nothing may look at."""
        return [path for path in self.outside.rglob("*") if path.is_file()]


NO_RASTER = "is not a raster of a known format, whatever its name says"
OUT = "leads out of the archive"


def add_no_rasters(at: Ground, good: bytes) -> None:
    at.add("empty.tif", "is empty (0 bytes)").touch()
    at.add("text.tif", NO_RASTER).write_text("These are no pixels.")
    os.mkfifo(at.add("pipe.tif", "is not a regular file"))
    at.add("gone.tif", "does not exist").symlink_to("no such file.tif")
    at.add("header.tif", "is truncated, damaged or no raster").write_bytes(good[:30])
    at.add("cut.tif", "is truncated: ").write_bytes(good[: len(good) // 2])
    at.add("two\nlines.tif", NO_RASTER).write_text("Nor are these.")
    shutil.copy(SAMPLE, at.add(os.fsdecode(b"latin\xe9.tif"), "has a name that is not UTF-8"))


def add_claims(at: Ground) -> None:
    for i, (claims, wrong) in enumerate(FORGERIES.values()):
        forged(at.add(f"forgery {i}.tif", wrong), **claims)


def add_places(at: Ground, profile: dict[str, Any]) -> None:
    pixels = noise(128, 128, 4).astype(np.uint16)
    write_raster(at.add("nowhere.tif", "has no coordinate reference system"), pixels, crs=None)
    write_raster(at.add("identity.tif", "has a coordinate reference system but no transform"), pixels, transform=None)
    write_raster(at.add("mars.tif", "is not on the Earth"), pixels, crs="+proj=eqc +R=3396190 +units=m")
    write_raster(at.add("three.tif", "3 bands"), pixels[:3])
    write_raster(at.add("coarse.tif", "20 m"), pixels, transform=TEN_METRES @ rasterio.Affine.scale(2))
    with rasterio.open(at.add("never.tif", ""), "w", **{**profile, "compress": None}, sparse_ok=True):
        pass


def add_damage(at: Ground, profile: dict[str, Any], values: Any) -> None:
    for name, broken, state, wrong in [
        ("scratched.tif", [(1, 2)], "partial", ""),
        ("ruined.tif", [(0, 1), (1, 2), (2, 0)], "refused", "3 blocks could not be decoded"),
    ]:
        path = at.add(name, wrong, state)
        with rasterio.open(path, "w", **profile) as dst:
            dst.write(values)
        for place in broken:
            break_block(path, *place)
    infinite = np.full((4, 128, 128), np.inf, np.float32)
    write_raster(at.add("infinite.tif", ""), infinite)
    edit(write_raster(at.add("nodata.tif", ""), np.zeros((4, 128, 128), np.uint16)), nodata=0)


def add_references(at: Ground) -> None:
    """What names another file or an address."""
    source = f"<SimpleSource><SourceFilename>/vsicurl/{at.url}/secret.tif</SourceFilename></SimpleSource>"
    vrt = f'<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1">{source}</VRTRasterBand></VRTDataset>'
    at.add("vrt.tif", NO_RASTER).write_text(vrt)
    (at.archive / "named.vrt").write_text(vrt)  # no scene unless it is named
    (at.archive / "list.txt").write_text(f"{at.url}/secret.tif\n{at.outside}/secret.tif\n")
    (at.archive / "item.json").write_text(f'{{"type": "Feature", "assets": {{"a": {{"href": "{at.url}/secret.tif", "roles": ["data"]}}}}}}')
    at.add("wms.tif", NO_RASTER).write_text(f'<GDAL_WMS><Service name="TMS"><ServerUrl>{at.url}</ServerUrl></Service></GDAL_WMS>')
    path = write_raster(at.add("overviews.tif", "carries an OVERVIEW_FILE tag"), noise(64, 64))
    with rasterio.open(path, "r+") as dst:
        dst.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=f"/vsicurl/{at.url}/secret.tif")
    spill, name = b"../outside/x.ige", "a" * 12  # a name as long as the path that takes its place
    path = write_raster(at.add(f"{name}.img", "lies outside its folder"), noise(64, 64), driver="HFA", USE_SPILL="YES")
    assert f"{name}.ige".encode() in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(f"{name}.ige".encode(), spill))


def add_links(at: Ground) -> None:
    at.add("linked.tif", OUT).symlink_to(at.outside / "secret.tif")
    (at.archive / "deep").mkdir()
    at.add("deep/folder", OUT).symlink_to(at.outside)
    (at.archive / "deep/up").symlink_to("..")  # a loop
    write_raster(at.add("masked.tif", "lies outside its folder"), noise(64, 64))
    (at.archive / "masked.tif.msk").symlink_to(at.outside / "secret.tif")


def add_products(at: Ground, shared: Path) -> None:
    landsat = write_landsat(at.archive, shared / "scenes" / "l8_224078_fill0.tif").path
    at.made[landsat.name] = ("refused", "that leads out of the product")
    band = next(landsat.glob("*_SR_B3.TIF"))
    band.rename(at.outside / "band.tif")
    band.symlink_to(at.outside / "band.tif")
    safe = write_safe(at.outside, shared / "scenes" / "s2_virginia_10m.tif", baseline="03.01").path
    packed = zipped(safe, at.add("evil.zip", "names a file outside the product"))
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("../outside/secret.tif", b"x")
    shutil.copytree(safe, at.archive / safe.name)
    at.made[safe.name] = ("refused", "that leads out of the product")
    image = next((at.archive / safe.name).rglob("*_B03_10m.jp2"))
    image.unlink()
    image.symlink_to(next(safe.rglob("*_B03_10m.jp2")))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    make_scenes(folder, 3)
    return folder


@pytest.fixture(scope="module")
def frozen(good: Path, quick_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(pipeline.fit([good / "scene_001.tif", good / "scene_002.tif"], quick_config), folder)
    return folder


@pytest.fixture(scope="module")
def ground(good: Path, site: Site, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp("ground")
    at = Ground(folder / "archive", folder / "outside", site.url)
    at.outside.mkdir()
    secret = write_raster(at.outside / "secret.tif", np.full((4, 128, 128), SECRET, np.uint16))
    write_raster(at.outside / "x.img", noise(64, 64), driver="HFA", USE_SPILL="YES")
    shutil.copytree(good, at.archive)
    with rasterio.open(SAMPLE) as src:
        values = src.read(window=((300, 556), (300, 556)))
        profile = {**src.profile, "driver": "GTiff", "height": 256, "width": 256, "tiled": True, "blockxsize": 64, "blockysize": 64}
    profile |= {"compress": "deflate", "interleave": "pixel"}
    add_no_rasters(at, (good / "scene_001.tif").read_bytes())
    add_claims(at)
    add_places(at, profile)
    add_damage(at, profile, values)
    add_references(at)
    add_links(at)
    add_products(at, shared_data)
    site.put("secret.tif", secret.read_bytes())
    for path in at.secrets():
        os.utime(path, ns=(0, path.stat().st_mtime_ns))  # any look at its bytes shows in its time of access
    site.forget()
    return at


@pytest.fixture(scope="module")
def among(ground: Ground, frozen: Path, quick_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a run over the hostile archive."""
    folder = tmp_path_factory.mktemp("among")
    assert not run_archive(str(ground.archive), frozen, folder, quick_config).is_clean
    return folder


def test_every_hostile_scene_has_its_state_and_its_reason(ground: Ground, among: Path) -> None:
    found = {scene["path"]: (scene["state"], (scene["error"] or {}).get("message", "")) for scene in manifest(among)["scenes"]}
    hostile = {name.encode(errors="surrogateescape").decode(errors="backslashreplace"): told for name, told in ground.made.items()}
    assert set(found) == set(hostile) | {"part 0/scene_000.tif", "scene_001.tif", "scene_002.tif"}
    for name, (state, wrong) in hostile.items():
        assert found[name][0] == state, (name, found[name])
        assert wrong in found[name][1], (name, found[name])
        assert state == "partial" or found[name][1], name


def test_good_scenes_have_the_layers_that_they_have_without_the_hostile_ones(
    good: Path, among: Path, frozen: Path, quick_config: Config, tmp_path: Path
) -> None:
    assert run_archive(str(good), frozen, tmp_path, quick_config).is_clean
    alone = layers(tmp_path)
    assert layers(among).items() >= alone.items()
    assert set(layers(among)) == {*alone, "layers/scratched.geojson"}


def test_the_archive_reaches_no_address(among: Path, site: Site) -> None:
    assert among.is_dir()
    assert site.hits == []


def test_no_file_outside_the_archive_is_read(ground: Ground, among: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    witness.write_bytes(b"x")
    os.utime(witness, ns=(0, witness.stat().st_mtime_ns))
    if witness.read_bytes() and not witness.stat().st_atime_ns:
        pytest.skip("this file system keeps no times of access")
    assert among.is_dir()
    assert [path.name for path in ground.secrets() if path.stat().st_atime_ns] == []
