"""Outputs appear whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from geoanom.errors import OutputError
from geoanom.layer.atomic import atomic_file, atomic_folder, check_output


def test_a_file_takes_its_name_only_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    with pytest.raises(ZeroDivisionError), atomic_file(target) as temporary:
        raise ZeroDivisionError(temporary.write_text("half"))
    assert list(tmp_path.iterdir()) == []
    with atomic_file(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_rewrite_leaves_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_file(target):
        raise ZeroDivisionError
    assert target.read_text() == "old"


def test_a_written_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("x")
    (tmp_path / "b").write_text("x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for content in ("one", "two"):
        with atomic_folder(target) as temporary:
            (temporary / content).write_text(content)
    assert [p.name for p in target.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [target]


def test_existing_outputs_and_missing_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    check_output(tmp_path / "there", overwrite=True)
    with pytest.raises(OutputError, match="exists already; choose another name or add --overwrite"):
        check_output(tmp_path / "there", overwrite=False)
    with pytest.raises(OutputError, match="does not exist"):
        check_output(tmp_path / "no" / "file", overwrite=False)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Path:
    """A file system of 64 KB, where the machine lets us mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs privileges that this machine does not give")
    return disk


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tiny_disk: Path) -> None:
    try:
        with pytest.raises(OutputError, match="No space left"), atomic_file(tiny_disk / "big") as temporary:
            temporary.write_bytes(os.urandom(1 << 20))
        assert list(tiny_disk.iterdir()) == []
    finally:
        subprocess.run(["/bin/umount", str(tiny_disk)], check=True)


def test_a_full_disk_stops_a_heatmap_although_gdal_closes_without_a_word(tiny_disk: Path) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
from pathlib import Path
from layers import flat_scene, score_map
from geoanom.errors import OutputError
from geoanom.layer.cog import write_heatmap
noise = np.random.default_rng(0).random((250, 250))
scores = score_map(flat_scene(8000, 8000), peaks={{place: float(v) for place, v in np.ndenumerate(noise)}})
try:
    write_heatmap(scores, Path({str(tiny_disk / "heat.tif")!r}))
except OutputError as error:
    print(error)
"""
    try:
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        assert "heat.tif: " in done.stdout
        assert list(tiny_disk.iterdir()) == []
    finally:
        subprocess.run(["/bin/umount", str(tiny_disk)], check=True)
