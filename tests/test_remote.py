"""Remote rasters over HTTP and S3: what is fetched, what is refused, and in which words."""

from __future__ import annotations

import logging
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import boto3
import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window as RioWindow
from rasters import block_place, break_block, coordinates, noise, write_raster
from servers import Site, Wire, http_site, redirect, s3_store, slow, status, without_ranges

from geoanom.config import Config, load_config
from geoanom.errors import SceneError
from geoanom.raster.blocks import stream_panels
from geoanom.raster.grid import Window
from geoanom.raster.scene import open_scene
from geoanom.sources.remote import GdalThread, open_remote, remote_file
from geoanom.sources.web import is_public, public_name, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from servers import Handler

    from geoanom.raster.scene import Pixels, Scene

SIDE_PX = 1024


def configured(*sets: str) -> Config:
    return load_config(sets=["sources.allow=[remote]", *sets], environ={})


@pytest.fixture
def site() -> Iterator[Site]:
    with http_site() as one:
        yield one


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A store with the bucket ``scenes``, which boto3 finds in the environment."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with s3_store() as wire, pytest.MonkeyPatch.context() as patch:
        for name, value in {"ACCESS_KEY_ID": "testing", "SECRET_ACCESS_KEY": "hidden", "DEFAULT_REGION": "us-east-1"}.items():
            patch.setenv(f"AWS_{name}", value)
        patch.setenv("AWS_CONFIG_FILE", str(tmp_path_factory.mktemp("aws") / "none"))
        patch.setenv("AWS_ENDPOINT_URL", wire.url)
        boto3.client("s3").create_bucket(Bucket="scenes")
        yield wire


@pytest.fixture(scope="module")
def cog(sample_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample scene as a COG without compression, so that what must be fetched of it can be counted."""
    path = tmp_path_factory.mktemp("cog") / "scene.tif"
    with rasterio.open(sample_scene) as src:
        write_raster(path, src.read(), driver="COG", blocksize=256, overviews="NONE", transform=src.transform, crs=src.crs)
    return path


def read(scene: Scene, window: Window) -> Pixels:
    with closing(scene.open_handle()) as handle:
        return handle.read(window)


def streamed(scene: Scene) -> NDArray[Any]:
    return np.concatenate([panel.values for panel in stream_panels(scene, configured())], axis=1)


def everywhere(site: Site, wire: Wire, content: bytes, name: str) -> list[tuple[str, Callable[[], int]]]:
    """The content behind both protocols, each with its count of bytes."""
    boto3.client("s3").put_object(Bucket="scenes", Key=f"some folder/{name}", Body=content)
    return [
        (site.put(f"some folder/{name}", content), lambda: site.bytes_served),
        (f"s3://scenes/some folder/{name}", lambda: wire.bytes_served),
    ]


def test_a_remote_scene_is_the_local_one_and_only_what_is_read_is_fetched(site: Site, store: Wire, cog: Path) -> None:
    here, size = open_scene(cog, Config()), cog.stat().st_size
    for uri, served in everywhere(site, store, cog.read_bytes(), "scene.tif"):
        start = served()
        scene = open_remote(uri, configured())
        assert scene is not None
        opened = served()
        assert opened - start < 100_000, "opening takes the header"
        assert np.array_equal(streamed(scene), streamed(here))
        passed = served()
        assert size <= passed - opened < 1.35 * size, "a pass takes every byte about once"
        block = Window(row_off=512, col_off=256, height=256, width=256)
        assert np.array_equal(read(scene, block).values, read(here, block).values)
        need = 256 * 256 * len(scene.bands) * 2
        assert need <= served() - passed < need + 150_000, "a window takes its blocks"
        same = ("bands", "georef", "height", "width", "block_height", "datetime", "warnings", "name", "band_count")
        assert [getattr(scene, name) for name in same] == [getattr(here, name) for name in same]


@settings(max_examples=10)
@given(st.data())
def test_reading_by_pieces_is_reading_whole(cog: Path, data: st.DataObject) -> None:
    row, col = (data.draw(st.integers(0, SIDE_PX - 1)) for _ in range(2))
    height, width = data.draw(st.integers(1, SIDE_PX - row)), data.draw(st.integers(1, SIDE_PX - col))
    with http_site() as site:
        scene = open_remote(site.put("x.tif", cog.read_bytes()), configured())
        assert scene is not None
        pixels = read(scene, Window(row_off=row, col_off=col, height=height, width=width))
    with rasterio.open(cog) as src:
        assert np.array_equal(pixels.values, src.read(window=RioWindow(col, row, width, height)))
    assert pixels.valid.all()


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1/x.tif", "https://me:secret@host/x.tif?sig=secret", "S3://bucket/x.tif"])
def test_nothing_is_reached_unless_it_is_allowed(uri: str) -> None:
    with pytest.raises(SceneError, match="not opened; download the file and name the local copy, or allow it with --set") as caught:
        open_scene(uri, Config())
    assert "secret" not in str(caught.value)


def cut(at: int) -> Callable[[Handler], bool]:
    """The rule that hangs up after so many bytes of a body."""
    return lambda handler: handler.reply_with(handler.server.site.files["x.tif"], cut=at)


def unwilling(handler: Handler) -> bool:
    """The rule that serves the start of a file and then fails."""
    return "bytes=0-" not in handler.headers.get("Range", "bytes=0-") and handler.reply(403, b"")


FAULTS: dict[str, tuple[Callable[[Handler], bool] | None, str]] = {
    "no ranges": (without_ranges, "is on a server that does not serve ranges of a file; download the file"),
    "absent": (status(404), r"does not exist \(HTTP 404\); check the URL"),
    "forbidden": (status(403), r"may not be read \(HTTP 403\); check the URL and the permission"),
    "login": (status(401), r"asks for a login \(HTTP 401\)"),
    "broken": (status(500), r"cannot be had \(HTTP 500\); try again later"),
    "slow": (slow, "gave no answer within 0.7 s; try again, or raise sources.read_timeout_s"),
    "cut": (cut(100), "is truncated: 100 of 16384 bytes arrived; try again"),
    "cut later": (unwilling, "is truncated, damaged or no raster|may not be read|cannot be opened again"),
    "too much": (lambda h: h.reply(206, b"x" * 20_000, {"Content-Range": "bytes 0-16383/99999"}), "sends more than the 16384 bytes"),
    "another range": (lambda h: h.reply(206, b"x", {"Content-Range": "bytes 5-5/99999"}), "is on a server that does not serve ranges"),
    "to a file": (redirect("file:///etc/passwd"), "redirects to a file: address; name a URL"),
    "to ftp": (redirect("ftp://127.0.0.1/x.tif"), "redirects to a ftp: address"),
    "to a neighbour": (redirect("http://127.0.0.2/x.tif"), "redirects to a private address of another host"),
    "to the cloud's secrets": (redirect("http://169.254.169.254/latest"), "redirects to a private address of another host"),
    "to a network inside": (redirect("http://10.0.0.1/x.tif"), "redirects to a private address of another host"),
    "round and round": (redirect("x.tif"), r"cannot be had \(HTTP 302\)"),
    "a page": (lambda handler: handler.reply_with(b"<html>" * 9999), "is not a GeoTIFF, and nothing else is read remotely"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_server_gets_one_clear_line(name: str, site: Site, cog: Path) -> None:
    rule, wrong = FAULTS[name]
    url = site.put("x.tif", cog.read_bytes())
    site.rules["x.tif"] = rule or status(404)
    with pytest.raises(SceneError, match=wrong) as caught:
        open_scene(f"{url}?sig=secret".replace("//", "//me:secret@"), configured("sources.read_timeout_s=0.7"))
    assert caught.value.subject == url
    assert "secret" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "uri", ["http://", "http://[", "http://host:port/x.tif", "http://127.0.0.1:1/x.tif", "http://no.such.host.invalid/x y.tif"]
)
def test_a_url_that_leads_nowhere_gets_one_clear_line(uri: str) -> None:
    with pytest.raises(SceneError, match=r"cannot be (reached|understood)"):
        open_scene(uri, configured("sources.read_timeout_s=3"))


def test_a_fault_that_passes_is_outlived(site: Site, cog: Path) -> None:
    tired = iter([True, False])
    site.rules["x.tif"] = lambda handler: next(tired, False) and handler.reply(503, b"")
    scene = open_remote(site.put("x.tif", cog.read_bytes()), configured())
    assert scene is not None
    assert np.array_equal(streamed(scene), streamed(open_scene(cog, Config())))


def test_a_redirect_on_the_same_host_is_followed(site: Site, cog: Path) -> None:
    site.put("real/x.tif", cog.read_bytes())
    site.rules["x.tif"] = redirect("/real/x.tif")
    scene = open_remote(f"{site.url}/x.tif", configured())
    assert scene is not None
    assert scene.uri == f"{site.url}/x.tif"
    assert np.array_equal(streamed(scene), streamed(open_scene(cog, Config())))


def test_a_login_goes_to_its_host_and_into_no_message(site: Site, cog: Path) -> None:
    site.rules["x.tif"] = lambda handler: handler.headers.get("Authorization") != "Basic bWU6cCB3" and handler.reply(401, b"")
    url = site.put("x.tif", cog.read_bytes())
    scene = open_scene(f"{url}?sig=abc".replace("//", "//me:p%20w@"), configured())
    assert (scene.uri, scene.name) == (url, "x.tif")
    assert streamed(scene).shape == (4, SIDE_PX, SIDE_PX)
    with pytest.raises(SceneError, match="asks for a login"):
        open_scene(url, configured())


@pytest.mark.parametrize("states_etag", [True, False], ids=["etag", "no etag"])
def test_a_scene_that_is_replaced_is_noticed(states_etag: bool, site: Site, tmp_path: Path) -> None:  # noqa: FBT001
    site.states_etag = states_etag
    url = site.put("x.tif", write_raster(tmp_path / "a.tif", coordinates(600, 600), block=128).read_bytes())
    scene, window = open_scene(url, configured()), Window(row_off=0, col_off=0, height=600, width=600)
    handle = scene.open_handle()
    scene.check_unchanged()
    site.put("x.tif", write_raster(tmp_path / "b.tif", coordinates(601, 600) + 1, block=128).read_bytes())
    with closing(handle), pytest.raises(SceneError, match=r"x\.tif: was replaced or changed while it was read"):
        scene.check_unchanged()
    with pytest.raises(SceneError, match="was replaced or changed"):
        scene.open_handle()
    assert np.array_equal(read(open_scene(url, configured()), window).values, coordinates(601, 600)[:, :600] + 1)


def test_what_the_digest_says(site: Site, cog: Path) -> None:
    one, copy = (open_scene(site.put(path, cog.read_bytes()), configured()) for path in ("x.tif", "y.tif"))
    assert one.digest == copy.digest, "the same content behind another URL"
    content = bytearray(cog.read_bytes())
    content[-1] ^= 1
    assert open_scene(site.put("x.tif", bytes(content)), configured()).digest != one.digest, "the ETag is that of the content"


def test_what_does_not_arrive_is_an_error_and_what_cannot_be_decoded_a_damaged_block(site: Site, tmp_path: Path) -> None:
    path = write_raster(tmp_path / "x.tif", noise(512, 512), block=128, compress="deflate")
    window = Window(row_off=0, col_off=0, height=512, width=512)
    start, length = block_place(path, 2, 1)
    url = site.put("x.tif", break_block(path, 2, 1).read_bytes())
    pixels = read(open_scene(url, configured()), window)
    assert pixels.damaged_blocks == ((2, 1),)
    assert (~pixels.valid).sum() == 128 * 128
    assert np.array_equal(pixels.values[:, pixels.valid], noise(512, 512)[:, pixels.valid])
    scene = open_scene(url, configured("sources.read_timeout_s=3"))

    def withhold(handler: Handler) -> bool:
        asked = handler.headers.get("Range", "bytes=0-0").removeprefix("bytes=").split("-")
        covers = int(asked[0]) <= start + length // 2 <= int(asked[1])
        return covers and handler.reply_with(site.files["x.tif"], cut=10)

    site.rules["x.tif"] = withhold
    with pytest.raises(SceneError, match=r"x\.tif: is truncated: 10 of \d+ bytes arrived"):
        read(scene, window)


def test_a_truncated_remote_file_is_noticed(site: Site, cog: Path) -> None:
    with pytest.raises(SceneError, match=r"x\.tif: is truncated: \d+ of 16 blocks lie beyond the end of the file"):
        open_scene(site.put("x.tif", cog.read_bytes()[: cog.stat().st_size // 2]), configured())


def test_the_permission_is_for_one_file_and_one_thread(site: Site, cog: Path) -> None:
    mine, other = (site.put(name, cog.read_bytes()) for name in ("mine.tif", "other.tif"))
    remote = remote_file(mine, configured())

    def opens(url: str) -> bool:
        try:
            with rasterio.open(f"/vsicurl/{url}", driver="GTiff", sharing=False):
                return True
        except rasterio.RasterioIOError:
            return False

    with GdalThread(remote, remote.fetch(0, 100)) as gdal:
        assert gdal.run(lambda: (opens(mine), opens(other))) == (True, False)
        assert not opens(mine)
        seen: list[bool] = []
        thread = threading.Thread(target=lambda: seen.append(opens(mine)))
        thread.start()
        thread.join()
        assert seen == [False]
    assert not any("other" in hit or "aux" in hit or "ovr" in hit or "msk" in hit for hit in site.hits)


def test_faults_of_a_store_get_one_clear_line(store: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store
    for key in ("none/x.tif", "scenes/gone.tif"):
        with pytest.raises(SceneError, match=rf"s3://{key}: does not exist \(HTTP 404\)"):
            open_scene(f"s3://{key}", configured())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(SceneError, match="cannot be reached"):
        open_scene("s3://scenes/x.tif", configured("sources.read_timeout_s=3"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(SceneError, match=r"cannot be reached \(Unable to locate credentials\); check the credentials"):
        open_scene("s3://scenes/x.tif", configured())


def test_a_scene_in_a_store_that_is_replaced_is_noticed(store: Wire, cog: Path, tmp_path: Path) -> None:
    assert store
    client = boto3.client("s3")
    client.put_object(Bucket="scenes", Key="x.tif", Body=cog.read_bytes())
    scene = open_scene("s3://scenes/x.tif", configured())
    scene.check_unchanged()
    client.put_object(Bucket="scenes", Key="x.tif", Body=write_raster(tmp_path / "b.tif", noise(64, 64)).read_bytes())
    with pytest.raises(SceneError, match="was replaced or changed"):
        scene.check_unchanged()


@given(st.text(alphabet=st.characters(categories=("L", "N")), min_size=3), st.sampled_from(["http", "https", "ftp"]))
def test_no_secret_of_a_url_is_shown(secret: str, scheme: str) -> None:
    marked = f"~{secret}~"
    url = f"{scheme}://{marked}:{marked}@host.org:81/a/x.tif?sig={marked}&a=1#{marked}"
    assert public_name(url) == f"{scheme}://host.org:81/a/x.tif"
    assert marked not in without_secrets(f"cannot open '/vsicurl/{url}', sorry")


PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "192.168.0.1",
    "169.254.169.254",
    "::1",
    "fe80::1",
    "localhost",
    "0.0.0.1",
    "no.host.invalid",
    "",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "fec0::1",
]


@pytest.mark.parametrize("host", PRIVATE)
def test_hosts_that_are_not_public(host: str) -> None:
    assert not is_public(host)


def test_a_public_address_is_one() -> None:
    assert is_public("8.8.8.8")
