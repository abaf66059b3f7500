"""What is checked before the first pixel is decoded: the path, the header, the blocks' places in the file."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rasterio.enums import Interleaving
from rasterio.errors import RasterioError

from geoanom.errors import SceneError
from geoanom.sources.handle import block_parts, numpy_dtype
from geoanom.sources.web import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import rasterio
    from numpy.typing import NDArray

    from geoanom.config import Sources
    from geoanom.raster.grid import Window

MAX_PIXELS_A_SIDE = 2**31 - 1
MAX_BLOCKS = 10_000_000
LEAST_LISTED_BYTES = 4
"""What a TIFF needs at least to list a block: two bytes for its offset, two for its size."""
SIDE_SUFFIXES = (".msk", ".ovr", ".aux.xml", ".aux", ".hdr", ".tfw", ".wld", ".prj", ".rpb", ".imd")
"""Of what GDAL looks at beside a raster without being told to."""
END_MARKS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}


def check_local_path(uri: str) -> Path:
    """The path of a readable, regular, non-empty local file.

    Raises:
        SceneError: it is anything else; opening a FIFO, say, would wait for ever.
    """
    if uri.startswith("/vsi") or "://" in uri:
        raise SceneError(without_secrets(uri), "remote and virtual paths are not opened", "download the file and name the local copy")
    if not uri.isascii() and any("\ud800" <= c <= "\udfff" for c in uri):
        raise SceneError(uri, "has a name that is not UTF-8, which GDAL cannot open", "rename it")
    path = Path(uri).absolute()  # so that no driver's prefix, such as GTIFF_DIR:, can stand at its start
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise SceneError(uri, "does not exist", "check the path") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SceneError(uri, f"cannot be reached ({reason})", "check the path and its permissions") from error
    if stat.S_ISDIR(status.st_mode):
        raise SceneError(uri, "is a directory", "name the raster files in it")
    if not stat.S_ISREG(status.st_mode):
        raise SceneError(uri, "is not a regular file", "name a raster file")
    if status.st_size == 0:
        raise SceneError(uri, "is empty (0 bytes)", "copy or download it again")
    if not os.access(path, os.R_OK):
        raise SceneError(uri, "may not be read", "change its permissions")
    if path.suffix.lower() != ".vrt":
        check_side_files(path, _links_beside(path), uri)
    return path


def _links_beside(path: Path) -> list[Path]:
    """Links that GDAL would follow as soon as it opens a raster."""
    suffixes = [form for suffix in SIDE_SUFFIXES for form in (suffix, suffix.upper())]
    names = [f"{name}{suffix}" for name in (path.name, path.stem) for suffix in suffixes]
    return [path.with_name(name) for name in names if os.path.islink(path.with_name(name))]  # noqa: PTH114 - which fails on long names


@dataclass(frozen=True)
class FileState:
    """What tells a replaced file from the one that was opened."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """The state now."""
        status = path.stat()
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)

    def check(self, path: Path, uri: str) -> None:
        """Raise `SceneError` if the file is not the same any more."""
        try:
            now = FileState.of(path)
        except OSError:
            now = None
        if now != self:
            raise SceneError(uri, "was replaced or changed while it was read", "run again when it is complete")


def check_side_files(path: Path, beside: Iterable[Path], uri: str) -> None:
    """Refuse what a file is read with (masks, headers, pixels of a second file) where it lies outside the file's folder.

    Where the file is a link itself, so may be what lies beside it.

    Raises:
        SceneError: with the name of what lies elsewhere.
    """
    folder = path.resolve().parent
    for other in beside:
        linked_too = path.is_symlink() and other.absolute().parent == path.parent
        if not linked_too and not Path(os.path.realpath(other)).is_relative_to(folder):  # Path.resolve fails on a link to itself
            raise SceneError(
                uri, f"is read with {other.name}, which lies outside its folder", "put that file itself beside it, or remove it"
            )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_header(src: rasterio.DatasetReader, uri: str, limits: Sources) -> None:
    """Refuse headers that would cost too much or lead elsewhere.

    Raises:
        SceneError: with the limit that was passed.
    """
    if src.count == 0:
        raise SceneError(uri, "has no bands of its own", "name one of its subdatasets as a file")
    if src.count > limits.max_bands:
        raise SceneError(uri, f"has {src.count} bands, the limit is {limits.max_bands}", "raise sources.max_bands")
    if max(src.height, src.width) >= MAX_PIXELS_A_SIDE:
        raise SceneError(uri, f"claims {src.height} x {src.width} pixels", "check that the file is what it says")
    block_height, block_width = src.block_shapes[0]
    bands_at_once = src.count if src.interleaving is Interleaving.pixel else 1
    block_mb = block_height * block_width * numpy_dtype(src.dtypes[0]).itemsize * bands_at_once / 2**20
    if block_mb > limits.max_block_mb:
        what = f"has blocks of {block_height} x {block_width} pixels ({block_mb:.0f} MB)"
        raise SceneError(uri, what, "retile it with gdal_translate -co TILED=YES, or raise sources.max_block_mb")
    check_complete(src, uri)
    if src.tags(ns="OVERVIEWS").get("OVERVIEW_FILE"):
        raise SceneError(uri, "carries an OVERVIEW_FILE tag that makes GDAL open another file", "remove the tag")


def check_complete(src: rasterio.DatasetReader, uri: str) -> None:
    """Refuse formats without a map of blocks that stop too early: GDAL serves zeros or grey for what they lack.

    Raises:
        SceneError: the file is shorter than its pixels, or the mark of its end is missing.
    """
    if src.driver == "ENVI":
        size, need = Path(src.name).stat().st_size, src.height * src.width * sum(numpy_dtype(dtype).itemsize for dtype in src.dtypes)
        if size < need:
            raise SceneError(uri, f"is truncated: it has {size} bytes, its pixels need {need}", "copy it again")
    if src.driver in END_MARKS:
        with Path(src.name).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            if END_MARKS[src.driver] not in file.read():
                raise SceneError(uri, "is truncated: the mark of its end is missing", "copy it again")


@dataclass(frozen=True)
class BlockMap:
    """Which blocks of a file are absent (sparse, or never written) and which lie beyond its end."""

    block_height: int
    block_width: int
    absent: NDArray[np.bool_]
    """(block row, block col)."""
    damaged: NDArray[np.bool_]
    """(block row, block col)."""

    def bad_in(self, window: Window) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """The absent and the damaged blocks that a window touches."""
        places = [place for place, _ in self.parts_of(window)]
        return [p for p in places if self.absent[p]], [p for p in places if self.damaged[p]]

    def parts_of(self, window: Window) -> Iterator[tuple[tuple[int, int], Window]]:
        """The blocks that a window touches, each with the part of the window inside it."""
        return block_parts(window, self.block_height, self.block_width)

    def windows_of(self, places: Iterable[tuple[int, int]], window: Window) -> list[Window]:
        """The parts of a window that lie in these blocks."""
        wanted = set(places)
        return [part for place, part in self.parts_of(window) if place in wanted] if wanted else []

    def warnings(self, uri: str, limits: Sources) -> list[str]:
        """What to tell of absent blocks.

        Raises:
            SceneError: more blocks lie beyond the file's end than may be lost.
        """
        total, lost, missing = self.absent.size, int(self.damaged.sum()), int(self.absent.sum())
        if lost > limits.max_damaged_fraction * total:
            what = f"is truncated: {lost} of {total} blocks lie beyond the end of the file"
            raise SceneError(uri, what, "copy it again, or raise sources.max_damaged_fraction")
        return [f"{missing} of {total} blocks were never written and are masked"] if missing else []


def survey_blocks(src: rasterio.DatasetReader, indexes: tuple[int, ...], size_bytes: int, uri: str = "") -> BlockMap:
    """Look up where a TIFF says its blocks are, without reading them; other formats have no bad blocks to report.

    GDAL serves an absent block as zeros that its mask calls valid.
    """
    block_height, block_width = src.block_shapes[indexes[0] - 1]
    shape = (-(-src.height // block_height), -(-src.width // block_width))
    absent, damaged = np.zeros(shape, bool), np.zeros(shape, bool)
    if src.driver != "GTiff":
        return BlockMap(block_height, block_width, absent, damaged)
    separate = src.interleaving is Interleaving.band
    _check_block_count(absent.size * (src.count if separate else 1), size_bytes, uri or src.name)
    for band in indexes if separate else indexes[:1]:
        for place in np.ndindex(*shape):
            start, length = block_extent(src, band, place)
            absent[place] |= start == 0 or length == 0
            damaged[place] |= start + length > size_bytes
    return BlockMap(block_height, block_width, absent, damaged)


def _check_block_count(n_blocks: int, size_bytes: int, uri: str) -> None:
    """Refuse what would take minutes to look up; a few hundred bytes can claim as many blocks as they like."""
    if n_blocks * LEAST_LISTED_BYTES > size_bytes:
        raise SceneError(
            uri, f"is truncated: its {size_bytes} bytes cannot even list the {n_blocks} blocks that it claims", "copy it again"
        )
    if n_blocks > MAX_BLOCKS:
        raise SceneError(uri, f"has {n_blocks} blocks, too many to check", "retile it with larger blocks")


def block_extent(src: rasterio.DatasetReader, band: int, place: tuple[int, ...]) -> tuple[int, int]:
    """Offset and size in bytes of a block; (0, 0) when it is absent."""
    row, col = place
    try:
        start = src.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band)
        length = src.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=band)
    except RasterioError:
        return 0, 0
    return int(start or 0), int(length or 0)
