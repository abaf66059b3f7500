"""STAC: one item as a scene, static catalogs by their links, APIs by a search."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.windows import Window as RioWindow
from rasters import edit, noise, write_raster
from servers import Site, http_site, redirect, status

from geoanom.config import Config, load_config
from geoanom.errors import ConfigError, GeoanomError, InputError, SceneError
from geoanom.raster.grid import Window
from geoanom.raster.scene import open_scene
from geoanom.sources.remote import open_remote
from geoanom.sources.stac import open_stac
from geoanom.sources.stac_search import _overlaps, _within, stac_items

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from servers import Handler

    from geoanom.raster.scene import Scene

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
BANDS = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}


def configured(*sets: str) -> Config:
    return load_config(sets=["sources.allow=[remote]", *sets], environ={})


def pixels_of(scene: Scene) -> tuple[NDArray[Any], NDArray[Any]]:
    with closing(scene.open_handle()) as handle:
        pixels = handle.read(Window(row_off=0, col_off=0, height=scene.height, width=scene.width))
    return pixels.values, pixels.valid


def item(name: str, assets: dict[str, Any], **properties: Any) -> dict[str, Any]:
    """An item of STAC 1.1."""
    place = {"bbox": [-77.0, 37.0, -76.0, 38.0], "geometry": None, "links": [], "assets": assets}
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": name,
        **place,
        "properties": {"datetime": "2024-05-06T07:08:09Z"} | properties,
    }


def asset(href: str, *bands: dict[str, Any], roles: tuple[str, ...] = ("data",), **more: Any) -> dict[str, Any]:
    return {"href": href, "type": COG, "roles": list(roles), **({"bands": list(bands)} if bands else {}), **more}


def cogs(folder: Path, sample_scene: Path) -> dict[str, NDArray[Any]]:
    """Real pixels, one COG a band."""
    crop = RioWindow(300, 200, 200, 160)
    with rasterio.open(sample_scene) as src:
        values, place = src.read(window=crop), src.window_transform(crop)
        for name, band in zip(BANDS, values, strict=True):
            write_raster(folder / f"{name}.tif", band[None], driver="COG", blocksize=128, transform=place, crs=src.crs)
    return dict(zip(BANDS, values, strict=True))


@pytest.fixture
def bands(tmp_path: Path, sample_scene: Path) -> dict[str, NDArray[Any]]:
    return cogs(tmp_path, sample_scene)


def write_item(folder: Path, content: dict[str, Any], name: str = "item.json") -> str:
    (folder / name).write_text(json.dumps(content))
    return str(folder / name)


def four_bands(**more: Any) -> dict[str, Any]:
    return {key: asset(f"./{key}.tif", {"name": key, "eo:common_name": common, **more}) for key, common in BANDS.items()}


def test_an_item_is_the_stack_of_its_data_assets(tmp_path: Path, bands: dict[str, NDArray[Any]]) -> None:
    (tmp_path / "thumb.tif").write_text("no raster, and none that is asked for")
    assets = four_bands() | {"thumbnail": asset("thumb.tif", roles=("thumbnail",)), "meta": asset("m.xml") | {"type": "application/xml"}}
    scene = open_scene(write_item(tmp_path, item("S2_A", assets)), Config())
    values, valid = pixels_of(scene)
    assert [band.name for band in scene.bands] == list(BANDS)
    assert (scene.name, scene.datetime) == ("S2_A", "2024-05-06T07:08:09Z")
    assert np.array_equal(values, np.stack(list(bands.values())))
    assert valid.all()


@pytest.mark.parametrize("chosen", ["[nir,red]", "[B08,B04]", "[B08,red]"])
def test_assets_are_chosen_by_key_or_common_name(chosen: str, tmp_path: Path, bands: dict[str, NDArray[Any]]) -> None:
    scene = open_scene(write_item(tmp_path, item("x", four_bands())), configured(f"sources.stac.assets={chosen}"))
    assert np.array_equal(pixels_of(scene)[0], np.stack([bands["B08"], bands["B04"]]))


@pytest.mark.parametrize("chosen", ["[4,3]", "[B08,b04]"])
def test_bands_are_chosen_among_those_of_all_assets(chosen: str, tmp_path: Path, bands: dict[str, NDArray[Any]]) -> None:
    scene = open_scene(write_item(tmp_path, item("x", four_bands())), configured(f"bands={chosen}"))
    assert np.array_equal(pixels_of(scene)[0], np.stack([bands["B08"], bands["B04"]]))
    with pytest.raises(ConfigError, match="has no band 'B09'"):
        open_scene(write_item(tmp_path, item("x", four_bands())), configured("bands=[B09]"))


def scaled_entries(how: str) -> dict[str, Any]:
    """The same scale, offset and nodata, as the versions of STAC write them."""
    if how == "raster:bands":
        return {"raster:bands": [{"scale": 0.0001, "offset": -0.1, "nodata": 1100}]}
    if how == "bands":
        return {"bands": [{"raster:scale": 0.0001, "raster:offset": -0.1, "nodata": 1100}]}
    return {"raster:scale": 0.0001, "raster:offset": -0.1, "nodata": 1100}


@pytest.mark.parametrize("how", ["raster:bands", "bands", "asset"])
def test_scale_offset_and_nodata_of_the_item_are_applied(how: str, tmp_path: Path, bands: dict[str, NDArray[Any]]) -> None:
    bands["B02"][3, 5] = 1100
    with rasterio.open(tmp_path / "B02.tif") as src:
        write_raster(tmp_path / "B02.tif", bands["B02"][None], transform=src.transform, crs=src.crs)
    scene = open_scene(write_item(tmp_path, item("x", {"b": asset("B02.tif") | scaled_entries(how)})), Config())
    values, valid = pixels_of(scene)
    assert np.array_equal(values[0], (bands["B02"] * 0.0001 - 0.1).astype(np.float32))
    assert np.array_equal(valid, bands["B02"] != 1100)
    assert "scale and offset of the STAC item are applied to b" in scene.warnings


def test_a_scale_that_the_file_states_too_is_applied_once(tmp_path: Path, bands: dict[str, NDArray[Any]]) -> None:
    path = write_raster(tmp_path / "own.tif", bands["B02"][None])
    edit(path, scales=[0.5])
    scene = open_scene(write_item(tmp_path, item("x", {"b": asset("own.tif", {"raster:scale": 0.5})})), Config())
    assert np.array_equal(pixels_of(scene)[0][0], bands["B02"] * np.float32(0.5))


def test_assets_of_other_resolutions_come_to_the_finest_grid(tmp_path: Path) -> None:
    fine, coarse = noise(64, 64), noise(32, 32, seed=1)
    write_raster(tmp_path / "fine.tif", fine)
    write_raster(tmp_path / "coarse.tif", coarse, transform=rasterio.Affine(20, 0, 500_000, 0, -20, 5_000_000))
    content = item("x", {"c": asset("coarse.tif"), "f": asset("fine.tif")})
    scene = open_scene(write_item(tmp_path, content), configured("sources.resampling=nearest"))
    values, _ = pixels_of(scene)
    assert np.array_equal(values, np.concatenate([coarse.repeat(2, axis=1).repeat(2, axis=2), fine]))


def test_a_period_begins_with_its_start(tmp_path: Path, bands: dict[str, NDArray[Any]]) -> None:
    assert bands
    period = {"datetime": None, "start_datetime": "2024-02-03T00:00:00+02:00", "end_datetime": "2024-02-04T00:00:00Z"}
    assert open_scene(write_item(tmp_path, item("x", four_bands(), **period)), Config()).datetime == "2024-02-02T22:00:00Z"


def test_the_id_cannot_lead_a_file_name_elsewhere(tmp_path: Path, bands: dict[str, NDArray[Any]]) -> None:
    assert bands
    assert open_scene(write_item(tmp_path, item("../../a\nb", four_bands())), Config()).name == "_.._a_b"


def test_an_item_may_name_what_lies_below_its_root_catalog_and_no_file_else(tmp_path: Path, sample_scene: Path) -> None:
    for name in ("catalog/items", "catalog/data", "outside"):
        (tmp_path / name).mkdir(parents=True)
    truth = cogs(tmp_path / "catalog/data", sample_scene)
    cogs(tmp_path / "outside", sample_scene)
    content = item("x", {"b": asset("../data/B02.tif")})
    with pytest.raises(SceneError, match=r"item\.json: names a file outside its catalog \('\.\./data/B02\.tif'\); put the file"):
        open_scene(write_item(tmp_path / "catalog/items", content), Config())
    content["links"] = [{"rel": "root", "href": "../catalog.json"}]
    (tmp_path / "catalog/catalog.json").write_text(json.dumps({"type": "Catalog", "stac_version": "1.0.0", "id": "c", "links": []}))
    scene = open_scene(write_item(tmp_path / "catalog/items", content), Config())
    assert np.array_equal(pixels_of(scene)[0][0], truth["B02"])
    (tmp_path / "catalog/data/link.tif").symlink_to(tmp_path / "outside/B02.tif")
    for href in ("../../outside/B02.tif", str(tmp_path / "outside/B02.tif"), "../data/link.tif", "/vsimem/x.tif"):
        content["assets"]["b"]["href"] = href
        with pytest.raises(SceneError, match="names a file outside its catalog"):
            open_scene(write_item(tmp_path / "catalog/items", content), Config())


def broken(**changes: Any) -> dict[str, Any]:
    return item("x", four_bands()) | changes


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no assets": (broken(assets=None), "has no assets that can be understood"),
    "an asset without address": (broken(assets={"b": {}}), "has no assets that can be understood"),
    "no data": (broken(assets={"b": asset("B02.tif", roles=("overview",))}), "has no GeoTIFF asset with the role data; its assets are b"),
    "a scale in words": (broken(assets={"b": asset("B02.tif", {"raster:scale": "big"})}), "has a scale that is no number ('big')"),
    "a scale of nothing": (broken(assets={"b": asset("B02.tif", {"raster:scale": 0})}), "has a scale that is no number (0)"),
    "bands that are none": (broken(assets={"b": asset("B02.tif", bands=[3])}), "describes the bands of 'b' in a way that cannot"),
    "a file address": (broken(assets={"b": asset("file:///etc/passwd")}), "names a file: address"),
    "an ftp address": (broken(assets={"b": asset("ftp://host/x.tif")}), "names a ftp: address"),
    "a missing file": (broken(assets={"b": asset("gone.tif")}), "does not exist"),
    "a catalog": ({"type": "Catalog", "stac_version": "1.0.0"}, "is a STAC catalog of many scenes"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_item_gets_one_clear_line(name: str, tmp_path: Path, bands: dict[str, NDArray[Any]]) -> None:
    assert bands
    content, wrong = BROKEN[name]
    with pytest.raises(SceneError) as caught:
        open_scene(write_item(tmp_path, content), Config())
    assert caught.value.wrong.startswith(wrong)
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, "\xff"])
def test_what_is_no_json_object_is_no_item(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(text.encode("latin1"))
    with pytest.raises(SceneError, match=r"x\.json: is (not a JSON|empty)"):
        open_scene(tmp_path / "x.json", Config())


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda v: st.lists(v) | st.dictionaries(st.text(), v)))
def test_no_content_of_a_member_breaks_the_program(tmp_path: Path, value: Any) -> None:
    for member in ("assets", "properties", "links", "id", "bands"):
        one = asset("gone.tif", **({"bands": value} if member == "bands" else {}))
        content = item("x", {"b": one}) | ({} if member == "bands" else {member: value})
        with pytest.raises(GeoanomError):
            open_stac(write_item(tmp_path, content), configured())


# --- remote ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def site() -> Iterator[Site]:
    with http_site() as one:
        yield one


def serve(site: Site, folder: Path, prefix: str = "") -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            site.put(f"{prefix}{path.relative_to(folder).as_posix()}", path.read_bytes())


def test_a_remote_item_is_read_by_ranges_of_its_assets(site: Site, tmp_path: Path, bands: dict[str, NDArray[Any]]) -> None:
    write_item(tmp_path, item("x", four_bands(**{"raster:scale": 0.0001})))
    serve(site, tmp_path, "deep/er/")
    scene = open_scene(f"{site.url}/deep/er/item.json?token=secret", configured())
    assert np.array_equal(pixels_of(scene)[0], (np.stack(list(bands.values())) * 0.0001).astype(np.float32))
    assert "secret" not in repr(scene)
    with pytest.raises(SceneError, match=r"allow it with --set 'sources\.allow=\[remote\]'"):
        open_scene(f"{site.url}/deep/er/item.json", Config())


def test_a_local_item_reaches_remote_assets_only_where_that_is_allowed(site: Site, tmp_path: Path, bands: dict[str, NDArray[Any]]) -> None:
    url = site.put("far/B02.tif", (tmp_path / "B02.tif").read_bytes())
    path = write_item(tmp_path, item("x", {"b": asset(url)}))
    assert np.array_equal(pixels_of(open_scene(path, configured()))[0][0], bands["B02"])
    site.forget()
    with pytest.raises(SceneError, match="remote and virtual paths are not opened"):
        open_scene(path, Config())
    assert site.hits == []


@pytest.mark.parametrize(
    ("href", "wrong"),
    [
        ("file:///etc/passwd", "names a file: address"),
        ("http://127.0.0.2/x.tif", "leads to a private address of another host"),
        ("http://169.254.169.254/latest/meta-data", "leads to a private address of another host"),
        ("/etc/passwd", "does not exist \\(HTTP 404\\)"),
        ("../../../etc/passwd", "does not exist \\(HTTP 404\\)"),
        ("gopher://x/y", "names a gopher: address"),
    ],
)
def test_a_remote_item_leads_to_no_local_file_and_no_private_address(href: str, wrong: str, site: Site) -> None:
    url = site.put("item.json", json.dumps(item("x", {"b": asset(href)})).encode())
    with pytest.raises(SceneError, match=wrong):
        open_scene(url, configured())


def static_catalog(folder: Path, sample_scene: Path) -> dict[str, dict[str, Any]]:
    """Two collections of real pixels: four items, a loop, and a link that is written twice."""
    items = {}
    for i, name in enumerate(["d", "b", "c", "a"]):
        home = folder / ("one" if i < 2 else "two") / name
        home.mkdir(parents=True)
        cogs(home, sample_scene)
        properties = {"datetime": f"2024-0{i + 1}-15T10:00:00Z", "eo:cloud_cover": 20 * i}
        items[name] = item(name, four_bands(), **properties) | {"collection": home.parent.name, "bbox": [i, 10, i + 0.5, 11]}
        items[name]["links"] = [{"rel": "root", "href": "../../catalog.json"}, {"rel": "parent", "href": "../collection.json"}]
        write_item(home, items[name], f"{name}.json")
    for name, held in {"one": ["d", "b"], "two": ["c", "a"]}.items():
        links = [{"rel": "item", "href": f"./{i}/{i}.json"} for i in held] + [{"rel": "child", "href": "../catalog.json"}]
        write_item(folder / name, {"type": "Collection", "stac_version": "1.0.0", "id": name, "links": links}, "collection.json")
    links = [{"rel": "child", "href": f"./{name}/collection.json"} for name in ("one", "two", "one")]
    write_item(folder, {"type": "Catalog", "stac_version": "1.0.0", "id": "all", "links": links}, "catalog.json")
    return items


FILTERS = {
    "all": ((), "abcd"),
    "collections": (("sources.stac.collections=[two]",), "ac"),
    "clouds": (("sources.stac.max_cloud_percent=20",), "bd"),
    "place": (("sources.stac.bbox=[0.6,10,2.1,10.5]",), "bc"),
    "a day": (("sources.stac.datetime='2024-02-15'",), "b"),
    "an open interval": (("sources.stac.datetime=2024-03-15/..",), "ac"),
    "to the second": (("sources.stac.datetime=2024-01-15T10:00:01Z/2024-03-15T12:00:00+02:00",), "bc"),
}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("where", ["local", "remote"])
def test_a_static_catalog_gives_the_items_that_are_asked_for(name: str, where: str, tmp_path: Path, sample_scene: Path, site: Site) -> None:
    static_catalog(tmp_path, sample_scene)
    serve(site, tmp_path)
    sets, wanted = FILTERS[name]
    base = site.url if where == "remote" else str(tmp_path)
    found = stac_items(f"{base}/catalog.json", configured(*sets))
    assert [uri.rpartition("/")[2] for uri in found] == [f"{i}.json" for i in wanted]
    assert np.array_equal(pixels_of(open_scene(found[0], configured()))[0].shape, (4, 160, 200))


def test_the_first_items_in_the_order_of_the_catalog_are_kept(tmp_path: Path, sample_scene: Path) -> None:
    static_catalog(tmp_path, sample_scene)
    found = stac_items(str(tmp_path / "catalog.json"), configured("sources.stac.max_items=3"))
    assert [uri[-6] for uri in found] == ["b", "c", "d"]


def test_a_catalog_without_what_is_asked_for_says_so(tmp_path: Path, sample_scene: Path) -> None:
    static_catalog(tmp_path, sample_scene)
    with pytest.raises(InputError, match=r"catalog\.json: holds no item that is asked for; check sources\.stac"):
        stac_items(str(tmp_path / "catalog.json"), configured("sources.stac.collections=[three]"))


def test_a_catalog_without_end_is_left(site: Site) -> None:
    def grow(handler: Handler) -> bool:
        level = int(handler.path.rpartition("/")[2])
        links = [{"rel": "child", "href": f"./{level + 1}"}]
        handler.reply_with(json.dumps({"type": "Catalog", "stac_version": "1.0.0", "id": "x", "links": links}).encode())
        return True

    site.rules = {f"{i}": grow for i in range(200)}
    with pytest.raises(SceneError, match="is deeper than 32 levels"):
        stac_items(f"{site.url}/0", configured())


@pytest.mark.parametrize("href", ["file:///etc/passwd", "http://127.0.0.2/catalog.json"])
def test_links_of_a_remote_catalog_are_judged(href: str, site: Site) -> None:
    catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "x", "links": [{"rel": "child", "href": href}]}
    with pytest.raises(SceneError, match=r"names a file: address|leads to a private address"):
        stac_items(site.put("catalog.json", json.dumps(catalog).encode()), configured())


def api(site: Site, items: list[dict[str, Any]], page: int = 2) -> str:
    """A STAC API: landing page, search by GET and POST with pages, and the items themselves."""
    conforms = [f"https://api.stacspec.org/v1.0.0/{part}" for part in ("core", "item-search", "ogcapi-features")]
    links = [{"rel": "search", "href": f"{site.url}/search", "method": m, "type": "application/geo+json"} for m in ("GET", "POST")]
    landing = {"type": "Catalog", "stac_version": "1.0.0", "id": "api", "description": "x", "conformsTo": conforms, "links": links}
    for one in items:
        one["links"] = [{"rel": "self", "href": f"{site.url}/collections/{one['collection']}/items/{one['id']}"}]
        site.put(f"collections/{one['collection']}/items/{one['id']}", json.dumps(one).encode())
    site.rules["search"] = lambda handler: _search(handler, items, page)
    return site.put("", json.dumps(landing).encode())


def _search(handler: Handler, items: list[dict[str, Any]], page: int) -> bool:
    if handler.command == "POST":
        asked = json.loads(handler.posted)
    else:
        asked = {key: value[0] for key, value in parse_qs(urlsplit(handler.path).query).items()}
    fit = [one for one in items if "collections" not in asked or one["collection"] in asked["collections"]]
    start = int(asked.get("start", 0))
    links = []
    if start + page < len(fit):
        body = asked | {"start": start + page}
        links = [{"rel": "next", "href": f"{handler.server.site.url}/search", "method": "POST", "body": body}]
    found = {"type": "FeatureCollection", "features": fit[start : start + page], "links": links}
    handler.reply(200, json.dumps(found).encode(), {"Content-Type": "application/geo+json"})
    return True


def test_an_api_is_searched_page_by_page_and_its_items_opened(site: Site, tmp_path: Path, sample_scene: Path) -> None:
    items = static_catalog(tmp_path, sample_scene)
    serve(site, tmp_path)
    for one in items.values():
        for entry in one["assets"].values():
            entry["href"] = f"{site.url}/{one['collection']}/{one['id']}/{entry['href'][2:]}"
    url = api(site, list(items.values()))
    found = stac_items(url, configured())
    assert [uri.rpartition("/")[2] for uri in found] == list("abcd")
    assert sum("/search" in hit for hit in site.hits) == 2
    assert pixels_of(open_scene(found[0], configured()))[0].shape == (4, 160, 200)
    clear = stac_items(url, configured("sources.stac.max_cloud_percent=20", "sources.stac.max_items=1"))
    assert [uri.rpartition("/")[2] for uri in clear] == ["d"]
    assert [uri.rpartition("/")[2] for uri in stac_items(url, configured("sources.stac.collections=[two]"))] == ["a", "c"]


def test_an_api_that_fails_or_never_ends_gets_one_clear_line(site: Site) -> None:
    url = api(site, [item("x", {}) | {"collection": "c"}])
    site.rules["search"] = status(400)
    with pytest.raises(SceneError, match="cannot be searched"):
        stac_items(url, configured())
    site.rules["search"] = redirect("http://127.0.0.2/")
    with pytest.raises(SceneError, match="redirects to a private address of another host"):
        stac_items(url, configured())

    def endless(handler: Handler) -> bool:
        links = [{"rel": "next", "href": f"{site.url}/search", "method": "GET"}]
        handler.reply(200, json.dumps({"type": "FeatureCollection", "features": [item("x", {})] * 300, "links": links}).encode())
        return True

    site.rules["search"] = endless
    with pytest.raises(SceneError, match="gives the same items again and again"):
        stac_items(url, configured())
    for href, wrong in {"file:///etc/passwd": "leads to a file: address", "http://127.0.0.2/": "leads to a private address"}.items():
        site.rules["search"] = partial(_one_page, following=href)
        with pytest.raises(SceneError, match=wrong):
            stac_items(url, configured())


def _one_page(handler: Handler, following: str) -> bool:
    page = {"type": "FeatureCollection", "features": [item("x", {})], "links": [{"rel": "next", "href": following, "method": "GET"}]}
    handler.reply(200, json.dumps(page).encode())
    return True


def test_the_missing_extra_is_named(site: Site) -> None:
    code = (
        "import sys; sys.modules['pystac_client'] = None\n"
        "from geoanom.config import load_config; from geoanom.sources.stac_search import stac_items\n"
        "from geoanom.errors import InputError\n"
        "try: stac_items(sys.argv[1], load_config(sets=['sources.allow=[remote]'], environ={}))\n"
        "except InputError as error: print(error.wrong, error.remedy)"
    )
    run = subprocess.run([sys.executable, "-c", code, api(site, [])], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "is an API, which needs pystac-client to be searched pip install 'geoanom[stac]'"


@given(st.floats(-180, 180), st.floats(-180, 180), st.floats(-180, 180))
def test_boxes_overlap_where_a_longitude_lies_in_both(west: float, east: float, at: float) -> None:
    inside = west <= at <= east if west <= east else at >= west or at <= east
    assert _overlaps([west, 0, east, 1], (at, 0.5, at, 0.5)) == inside
    assert _overlaps([west, 0, 5, east, 1, 9], (at, 0.5, at, 0.5)) == inside


@given(st.datetimes(min_value=__import__("datetime").datetime(1980, 1, 1), max_value=__import__("datetime").datetime(2100, 1, 1)))
def test_a_moment_lies_in_its_own_day_and_second(moment: Any) -> None:
    text = f"{moment.replace(microsecond=0).isoformat()}Z"
    assert _within(text, text[:10])
    assert _within(text, f"{text}/{text}")
    assert _within(text, f"../{text[:7]}")
    assert not _within(None, "../..")


def test_a_remote_item_is_no_plain_raster(site: Site) -> None:
    with pytest.raises(SceneError, match="is not a GeoTIFF, and nothing else is read remotely"):
        open_remote(site.put("item.json", b"{}" * 20), configured())
    with pytest.raises(SceneError, match="is not a STAC item"):
        open_stac(site.put("item.json", b"{}"), configured())
