"""Products in a zip, read where they are: its directory is checked for what is made to do harm before a member is opened."""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import rasterio

from geoanom.errors import SceneError
from geoanom.sources.checks import FileState, check_header, check_local_path
from geoanom.sources.geotiff import RasterFile, scene_of
from geoanom.sources.handle import UNREADABLE, RasterHandle
from geoanom.sources.jpeg2000 import check_jpeg2000
from geoanom.sources.product import AGAIN, check_inside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from geoanom.config import Config
    from geoanom.raster.scene import Scene

MAX_MEMBERS = 10_000
MAX_DIRECTORY_BYTES = 16 * 2**20
MAX_RATIO = 100
"""Largest ratio of a member's size to its compressed size; metadata compress 20 times, images hardly."""
SMALL_BYTES = 2**20
"""Members up to this size may be compressed as much as they like."""
END_OF_ZIP = b"PK\x05\x06"


@dataclass(frozen=True)
class Zipped:
    """A product as the one folder in a zip."""

    uri: str
    path: Path
    state: FileState
    members: dict[str, zipfile.ZipInfo]
    """By name inside the product."""
    top: str
    """The folder in the zip, with a slash at its end."""

    @classmethod
    def at(cls, uri: str) -> Zipped:
        """Open a zip after checking what it holds.

        Raises:
            SceneError: it is no zip, damaged, or made to do harm.
        """
        path = check_local_path(uri)
        if "{" in uri or "}" in uri:
            raise SceneError(uri, "has a brace in its path, which GDAL takes for its own syntax", "rename it")
        state = FileState.of(path)
        with opened_zip(path, uri) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
        _check_members(infos, uri)
        tops = {PurePosixPath(info.filename).parts[0] for info in infos} - {"__MACOSX"}
        if len(tops) != 1:
            raise SceneError(uri, "does not hold one folder", "name a zip of one product")
        top = f"{tops.pop()}/"
        return cls(uri=uri, path=path, state=state, members={info.filename.removeprefix(top): info for info in infos}, top=top)

    @property
    def name(self) -> str:
        """The name of the folder in the zip."""
        return self.top.rstrip("/")

    def names(self) -> frozenset[str]:
        """The files at the product's top."""
        return frozenset(name for name in self.members if "/" not in name)

    def open(self, member: str) -> IO[bytes]:
        """A file inside the product, unpacked while it is read."""
        info = self._info(member)
        with opened_zip(self.path, self.uri) as archive:
            return archive.open(info)

    def raster(self, member: str, config: Config) -> Scene:
        """A JPEG 2000 image inside the product, read where it is in the zip."""
        info, uri = self._info(member), f"{self.uri}/{self.top}{member}"
        path = Path(f"/vsizip/{{{self.path}}}/{info.filename}")
        try:
            with self.open(member) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it has what the digest asks for
            with self.open(member) as file:
                driver = check_jpeg2000(file, uri)
            raster = RasterFile(
                uri=uri,
                name=PurePosixPath(member).name,
                path=path,
                driver=driver,
                size_bytes=info.file_size,
                digest=lambda: digest,
                open_handle=RasterHandle,
                check_unchanged=lambda: self.state.check(self.path, self.uri),
            )
            with rasterio.open(path, driver=driver, sharing=False) as src:
                check_header(src, uri, config.sources)
                return scene_of(src, raster, config)
        except (*UNREADABLE, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise SceneError(uri, f"is truncated, damaged or no raster ({error})", AGAIN) from error

    def _info(self, member: str) -> zipfile.ZipInfo:
        check_inside(member, self.uri)
        info = self.members.get(member)
        if info is None:
            raise SceneError(self.uri, f"lacks the file {member}", AGAIN)
        if info.file_size > max(SMALL_BYTES, MAX_RATIO * info.compress_size):
            what = f"holds {member}, which {info.compress_size} bytes claim to unpack to {info.file_size}"
            raise SceneError(self.uri, what, "unpack it yourself if you trust it")
        return info


@contextmanager
def opened_zip(path: Path, uri: str) -> Iterator[zipfile.ZipFile]:
    """A zip whose directory has been found to be small.

    Raises:
        SceneError: it is no zip, or its directory is too large.
    """
    try:
        n_members, n_bytes = _directory(path)
        if n_members > MAX_MEMBERS or n_bytes > MAX_DIRECTORY_BYTES:
            raise SceneError(uri, f"is a zip of {n_members} files or more, the limit is {MAX_MEMBERS}", "unpack it and name the folder")
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeDecodeError, struct.error) as error:
        raise SceneError(uri, f"is a damaged or truncated zip ({error})", AGAIN) from error


def _directory(path: Path) -> tuple[int, int]:
    """How many files a zip says it has, and the bytes of its directory; larger than any limit where 64 bits are needed."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2**16 - 22))
        tail = file.read()
    start = tail.rfind(END_OF_ZIP)
    if start < 0:
        raise zipfile.BadZipFile("its directory is missing")
    n_members, n_bytes = struct.unpack_from("<HI", tail, start + 10)
    return n_members, n_bytes


def _check_members(infos: list[zipfile.ZipInfo], uri: str) -> None:
    if not infos:
        raise SceneError(uri, "is an empty zip", AGAIN)
    seen: set[str] = set()
    for info in infos:
        check_inside(info.filename, uri)
        if stat.S_ISLNK(info.external_attr >> 16):
            raise SceneError(uri, f"holds a link, {info.filename}", "unpack it yourself if you trust it")
        if info.flag_bits & 1:
            raise SceneError(uri, "is encrypted", "unpack it and name the folder")
        if info.filename in seen:
            raise SceneError(uri, f"holds {info.filename} twice", AGAIN)
        seen.add(info.filename)
