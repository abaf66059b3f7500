"""GeoTIFFs over HTTP and in S3, of which GDAL fetches only the ranges that are read.

GDAL may reach nothing outside this machine (`geoanom.raster.environ`). The permission for one file is given to the one
thread that reads it; options set in a program's main thread would hold for all threads.
"""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol, Self, TypeVar
from urllib.parse import unquote, urlsplit

import rasterio
from rasterio.session import DummySession, Session

from geoanom.errors import SceneError
from geoanom.raster.environ import remote_options
from geoanom.sources.checks import block_extent, check_header
from geoanom.sources.geotiff import MAGIC, RasterFile, scene_of
from geoanom.sources.handle import UNREADABLE, RasterHandle
from geoanom.sources.s3 import SCHEME as S3
from geoanom.sources.s3 import S3File
from geoanom.sources.web import SCHEMES, Answer, fetch, public_name, split_login, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from geoanom.config import Config
    from geoanom.raster.grid import Window
    from geoanom.raster.scene import Pixels, Scene
    from geoanom.sources.checks import BlockMap
    from geoanom.sources.handle import Reading

DRIVER = "GTiff"
HEAD_BYTES = 16_384
"""How much of a file's beginning makes part of its identity: the header of nearly every COG."""

Result = TypeVar("Result")


class Remote(Protocol):
    """A file on another machine."""

    @property
    def name(self) -> str:
        """Its URL without secrets."""

    def fetch(self, start: int, length: int) -> Answer:
        """A range of its bytes."""

    def gdal_path(self, answer: Answer) -> str:
        """What GDAL calls it, after what it answered."""

    def gdal_options(self, answer: Answer) -> dict[str, str]:
        """GDAL's options to reach it and nothing else."""

    def gdal_session(self) -> Session:
        """GDAL's credentials."""


@dataclass(frozen=True)
class WebFile:
    """A file behind a URL."""

    url: str
    """With its user, password and query."""
    timeout_s: float

    @property
    def name(self) -> str:
        """The URL without secrets."""
        return public_name(self.url)

    def fetch(self, start: int, length: int) -> Answer:
        """A range of its bytes, from where judged redirects lead."""
        return fetch(self.url, self.name, self.timeout_s, start=start, length=length)

    def gdal_path(self, answer: Answer) -> str:
        """The address that answered, so that GDAL meets no redirect that was not judged."""
        return f"/vsicurl/{answer.url}"

    def gdal_options(self, answer: Answer) -> dict[str, str]:
        """The login goes with the options, not with the path, and only to the host that it is for."""
        plain, login = split_login(self.url)
        is_theirs = urlsplit(plain).netloc == urlsplit(answer.url).netloc
        logged_in = {"GDAL_HTTP_AUTH": "BASIC", "GDAL_HTTP_USERPWD": login} if login is not None and is_theirs else {}
        options = remote_options(self.gdal_path(answer), self.timeout_s)
        return {**options, **logged_in, "AWS_NO_SIGN_REQUEST": "YES"}  # rasterio takes some hosts for S3 and looks for credentials

    def gdal_session(self) -> Session:
        """None."""
        return DummySession()


def is_remote(uri: str) -> bool:
    """Is this a URL of a kind that can be read?"""
    return uri.lower().startswith((S3, *(f"{scheme}://" for scheme in SCHEMES)))


def remote_file(uri: str, config: Config) -> Remote:
    """The file behind a URL, if the settings allow to reach it.

    Raises:
        SceneError: they do not, or it is no URL.
    """
    try:
        name = public_name(uri)
    except ValueError as error:
        raise SceneError("URL", f"cannot be understood ({error})", "check how it is written") from error
    if "remote" not in config.sources.allow:
        way_out = "download the file and name the local copy, or allow it with --set 'sources.allow=[remote]'"
        raise SceneError(name, "remote and virtual paths are not opened", way_out)
    timeout_s = config.sources.read_timeout_s
    return S3File(f"{S3}{uri[len(S3) :]}", timeout_s) if uri.lower().startswith(S3) else WebFile(uri, timeout_s)


def open_remote(uri: str, config: Config) -> Scene | None:
    """Open a remote GeoTIFF by its header; None for what is no URL.

    Its digest is the SHA-256 over what the server states of the content (ETag, Last-Modified, size) and over the first
    `HEAD_BYTES`, not over all bytes: a scene is not fetched to be named. The same content behind another URL of the server
    has the same digest, a copy on another server may have another.

    Raises:
        SceneError: it may not be reached, cannot be had, or cannot be used as a scene.
        ConfigError: a band is asked for that it does not have.
    """
    if not is_remote(uri):
        return None
    remote = remote_file(uri, config)
    answer = remote.fetch(0, HEAD_BYTES)
    _check_is_tiff(answer, remote.name)
    try:
        with GdalThread(remote, answer) as gdal:
            return gdal.run(partial(_describe, remote, answer, config))
    except UNREADABLE as error:
        _check_unchanged(remote, answer)
        what = f"is truncated, damaged or no raster ({without_secrets(str(error))})"
        raise SceneError(remote.name, what, "upload it again, or name a GeoTIFF") from error


def _describe(remote: Remote, answer: Answer, config: Config) -> Scene:
    with rasterio.open(remote.gdal_path(answer), driver=DRIVER, sharing=False) as src:
        check_header(src, remote.name, config.sources)
        return scene_of(src, _remote_file(remote, answer), config)


def _remote_file(remote: Remote, answer: Answer) -> RasterFile:
    return RasterFile(
        uri=remote.name,
        name=unquote(PurePosixPath(urlsplit(remote.name).path).name) or remote.name,
        path=Path(remote.name),
        driver=DRIVER,
        size_bytes=answer.size_bytes,
        digest=lambda: identity_of(answer),
        open_handle=partial(RemoteHandle, remote, answer),
        check_unchanged=partial(_check_unchanged, remote, answer),
    )


def identity_of(answer: Answer) -> str:
    """SHA-256 over what a server states of a file, and over its first bytes, in hex."""
    stated = json.dumps([answer.etag, answer.modified, answer.size_bytes])
    return hashlib.sha256(stated.encode() + b"\0" + answer.body).hexdigest()


def _check_is_tiff(answer: Answer, name: str) -> None:
    if not any(driver == DRIVER and answer.body.startswith(magic) for magic, driver in MAGIC.items()):
        raise SceneError(name, "is not a GeoTIFF, and nothing else is read remotely", "download it and name the local copy")


def _check_unchanged(remote: Remote, answer: Answer) -> None:
    _answer_again(remote, answer)


def _answer_again(remote: Remote, answer: Answer) -> Answer:
    """What the file answers now; `SceneError` if it is not the same any more."""
    now = remote.fetch(0, HEAD_BYTES)
    if identity_of(now) != identity_of(answer):
        raise SceneError(remote.name, "was replaced or changed while it was read", "run again when it is complete")
    return now


class GdalThread:
    """The one thread in which GDAL may reach one remote file; a daemon, so that a server that hangs cannot keep the process alive."""

    def __init__(self, remote: Remote, answer: Answer) -> None:
        """Start it and give it its permission."""
        self._todo: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._env = rasterio.Env(session=remote.gdal_session(), **remote.gdal_options(answer))
        threading.Thread(target=self._work, name="geoanom-remote", daemon=True).start()
        self.run(self._env.__enter__)

    def run(self, work: Callable[[], Result]) -> Result:
        """What the work gives, or raises, in that thread."""
        future: Future[Result] = Future()
        self._todo.put(partial(_fulfil, future, work))
        return future.result()

    def close(self) -> None:
        """Take the permission back and end the thread, as soon as it has done what it does."""
        self._todo.put(self._env.__exit__)
        self._todo.put(None)

    def _work(self) -> None:
        while (task := self._todo.get()) is not None:
            task()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _fulfil(future: Future[Result], work: Callable[[], Result]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it, which raises it
        future.set_exception(error)


class RemoteHandle(RasterHandle):
    """An open remote raster. What does not arrive is an error; only what arrives and cannot be decoded is a damaged block."""

    def __init__(self, remote: Remote, answer: Answer, reading: Reading, blocks: BlockMap) -> None:
        """Open the file again, where it answers now.

        Raises:
            SceneError: it was replaced, or cannot be reached any more.
        """
        self._remote, self._answer, self._reading, self._blocks = remote, answer, reading, blocks
        now = _answer_again(remote, answer)
        self._gdal = GdalThread(remote, now)
        try:
            self._src = self._gdal.run(partial(rasterio.open, remote.gdal_path(now), driver=DRIVER, sharing=False))
        except UNREADABLE as error:
            self._gdal.close()
            what = f"cannot be opened again ({without_secrets(str(error))})"
            raise SceneError(remote.name, what, "leave it in place while it is read") from error

    def close(self) -> None:
        """Close the file and end its thread."""
        self._gdal.run(super().close)
        self._gdal.close()

    def read(self, window: Window) -> Pixels:
        """The window in real units; absent and undecodable blocks are masked, the latter also named.

        Raises:
            SceneError: the server does not deliver, or the file was replaced.
        """
        return self._gdal.run(partial(super().read, window))

    def _decode(self, window: Window) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        try:
            return super()._decode(window)
        except (*UNREADABLE, OSError):
            self._check_delivery(window)
            return super()._decode(window)

    def _check_delivery(self, window: Window) -> None:
        """Raise if the server is at fault; the bytes of a single block are fetched to see."""
        _check_unchanged(self._remote, self._answer)
        places = [place for place, _ in self._blocks.parts_of(window)]
        for band in self._reading.indexes if len(places) == 1 else ():
            start, length = block_extent(self._src, band, places[0])
            if length:
                self._remote.fetch(start, length)
