"""Which scenes an archive holds, whatever their names and links are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from rasters import noise, write_raster

from geoanom.config import load_config
from geoanom.errors import InputError
from geoanom.sources.catalog import expand, find_scenes, is_collection

if TYPE_CHECKING:
    from pathlib import Path

    from geoanom.config import Config


@pytest.fixture
def config() -> Config:
    return load_config(environ={})


def a_scene(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_raster(path, noise(8, 8))


def names(uri: str | Path, config: Config) -> list[str]:
    return [entry.name for entry in find_scenes(str(uri), config).entries]


def test_a_folder_gives_its_rasters_in_the_order_of_their_bytes_and_nothing_else(tmp_path: Path, config: Config) -> None:
    for name in ("b.tif", "a/z.TIF", "a/A.tiff", "B.tif"):
        a_scene(tmp_path / name)
    for name in ("notes.txt", "b.tif.msk", "look.png", ".hidden.tif", "a/.cache/x.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path, config) == ["B.tif", "a/A.tiff", "a/z.TIF", "b.tif"]


def test_odd_names_are_scenes_like_others(tmp_path: Path, config: Config) -> None:
    odd = ["with space.tif", "new\nline.tif", os.fsdecode(b"latin\xe9.tif"), "[1-2]*.tif", "~é.tif", "-v.tif"]
    for name in odd:
        a_scene(tmp_path / "plain.tif").rename(tmp_path / name)
    assert names(tmp_path, config) == sorted(odd, key=os.fsencode)


def test_loops_of_links_end_and_each_folder_is_visited_once(tmp_path: Path, config: Config) -> None:
    a_scene(tmp_path / "in" / "a.tif")
    (tmp_path / "in" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self").symlink_to("self")
    assert names(tmp_path, config) == ["in/a.tif"]


def test_links_out_of_the_archive_are_refused_by_name_and_links_inside_are_not(tmp_path: Path, config: Config) -> None:
    archive = tmp_path / "archive"
    inside, outside = a_scene(archive / "a.tif"), a_scene(tmp_path / "secret" / "s.tif")
    (archive / "copy.tif").symlink_to(inside)
    (archive / "out.tif").symlink_to(outside)
    (archive / "outdir").symlink_to(outside.parent, target_is_directory=True)
    refused = {entry.name: entry.refusal is not None for entry in find_scenes(str(archive), config).entries}
    assert refused == {"a.tif": False, "copy.tif": False, "out.tif": True, "outdir": True}


def test_a_list_may_hold_comments_other_folders_and_zero_bytes(tmp_path: Path, config: Config) -> None:
    here, there = a_scene(tmp_path / "a b.tif"), a_scene(tmp_path / "other" / "c.tif")
    lines, zeros = tmp_path / "lines.txt", tmp_path / "zeros.txt"
    lines.write_text(f"# scenes\n\na b.tif\n  {there}  \na b.tif\n")
    zeros.write_bytes(b"a b.tif\0" + os.fsencode(there) + b"\0")
    found = find_scenes(str(lines), config).entries
    assert sorted(entry.uri for entry in found) == sorted([str(here), str(there)])
    assert {entry.uri for entry in find_scenes(str(zeros), config).entries} == {entry.uri for entry in found}


def test_a_pattern_reaches_down_and_is_named_from_its_fixed_part(tmp_path: Path, config: Config) -> None:
    for name in ("x/1.tif", "x/y/2.tif", "z.tif"):
        a_scene(tmp_path / name)
    assert names(f"{tmp_path}/x/**/*.tif", config) == ["1.tif", "y/2.tif"]


def test_a_pattern_ends_in_loops_of_links_and_finds_nothing_hidden_and_no_output(tmp_path: Path, config: Config) -> None:
    for name in ("x/a.tif", "x/.cache/b.tif", "x/out/heatmaps/c.tif"):
        a_scene(tmp_path / name)
    for name in ("one", "two", "three"):
        (tmp_path / "x" / name).symlink_to(tmp_path / "x", target_is_directory=True)
    found = find_scenes(f"{tmp_path}/x/**/*.tif", config, leave_out=tmp_path / "x" / "out")
    assert [entry.name for entry in found.entries] == ["a.tif"]
    with pytest.raises(InputError, match="is no pattern"):
        find_scenes(f"{tmp_path}/**.tif", config)


def test_a_pattern_refuses_what_lies_behind_a_link_out_of_the_archive(tmp_path: Path, config: Config) -> None:
    a_scene(tmp_path / "secret" / "s.tif")
    a_scene(tmp_path / "x" / "in" / "a.tif")
    (tmp_path / "x" / "out").symlink_to(tmp_path / "secret", target_is_directory=True)
    found = find_scenes(f"{tmp_path}/x/*/*.tif", config).entries
    assert {entry.name: entry.refusal is not None for entry in found} == {"in/a.tif": False, "out/s.tif": True}


def test_places_that_would_share_a_name_are_told_apart(tmp_path: Path, config: Config) -> None:
    outside = a_scene(tmp_path / "other" / "a.tif")
    inside = a_scene(tmp_path / "x" / str(outside).lstrip("/"))
    (tmp_path / "x" / "list.txt").write_text(f"{outside}\n{inside}\n{inside}\n")
    entries = find_scenes(str(tmp_path / "x" / "list.txt"), config).entries
    assert sorted(entry.uri for entry in entries) == sorted([str(outside), str(inside)])
    assert len({entry.name for entry in entries}) == 2


def test_an_archive_that_is_its_own_output_folder_is_refused(tmp_path: Path, config: Config) -> None:
    a_scene(tmp_path / "a.tif")
    with pytest.raises(InputError, match="is the output folder as well"):
        find_scenes(str(tmp_path), config, leave_out=tmp_path)


def test_an_empty_archive_is_refused_in_one_line(tmp_path: Path, config: Config) -> None:
    (tmp_path / "list.txt").write_text("# nothing\n")
    for uri in (tmp_path, tmp_path / "*.tif", tmp_path / "list.txt"):
        with pytest.raises(InputError, match="holds no scene"):
            find_scenes(str(uri), config)


def test_the_output_folder_and_quality_rasters_are_no_scenes(tmp_path: Path) -> None:
    for name in ("a.tif", "a_qa.tif", "out/heatmaps/a.tif"):
        a_scene(tmp_path / name)
    config = load_config(sets=["sources.qa={suffix: _qa.tif, reject: [1]}"], environ={})
    found = find_scenes(str(tmp_path), config, leave_out=tmp_path / "out")
    assert [entry.name for entry in found.entries] == ["a.tif"]


def test_pictures_are_scenes_only_where_pixel_space_is_allowed(tmp_path: Path, config: Config) -> None:
    a_scene(tmp_path / "a.tif")
    (tmp_path / "b.png").write_bytes(b"x")
    assert names(tmp_path, config) == ["a.tif"]
    assert names(tmp_path, load_config(sets=["sources.pixel_space=true"], environ={})) == ["a.tif", "b.png"]


def test_single_scenes_stay_what_they_are_and_folders_are_expanded(tmp_path: Path, config: Config) -> None:
    a, b = a_scene(tmp_path / "d" / "a.tif"), a_scene(tmp_path / "b.tif")
    assert not is_collection(str(b))
    assert not is_collection("https://host/with[brackets].tif")
    assert expand([b, tmp_path / "d", "missing.tif"], config) == [str(b), str(a), "missing.tif"]
