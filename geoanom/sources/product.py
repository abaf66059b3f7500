"""Products of many files, as a folder or a zip: only what lies inside them is ever opened."""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol
from xml.etree import ElementTree as ET

from geoanom.errors import SceneError
from geoanom.sources.checks import check_local_path
from geoanom.sources.geotiff import open_raster
from geoanom.sources.jpeg2000 import check_jpeg2000

if TYPE_CHECKING:
    from typing import IO

    from geoanom.config import Config
    from geoanom.raster.scene import Scene

MAX_TEXT_BYTES = 32 * 2**20
AGAIN = "download it again"


class Product(Protocol):
    """Named files in one container."""

    @property
    def uri(self) -> str:
        """What the user named."""

    @property
    def name(self) -> str:
        """Of the product, for layers and messages."""

    def names(self) -> frozenset[str]:
        """The files at the product's top."""

    def open(self, member: str) -> IO[bytes]:
        """A file inside the product.

        Raises:
            SceneError: it is missing, leads out of the product, or cannot be read.
        """

    def raster(self, member: str, config: Config) -> Scene:
        """A JPEG 2000 image inside the product.

        Raises:
            SceneError: as for `open`, or it cannot be used.
        """


@dataclass(frozen=True)
class Folder:
    """A product as a folder of files."""

    uri: str
    root: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.root.absolute().name

    def names(self) -> frozenset[str]:
        """The files at the product's top."""
        return frozenset(path.name for path in self.root.iterdir())

    def open(self, member: str) -> IO[bytes]:
        """A file inside the product."""
        return self.path_of(member).open("rb")

    def raster(self, member: str, config: Config) -> Scene:
        """A JPEG 2000 image inside the product."""
        path = self.path_of(member)
        check_local_path(str(path))
        with path.open("rb") as file:
            check_jpeg2000(file, str(path))
        scene = open_raster(str(path), config)
        if scene is None:  # pragma: no cover - it opens or raises
            raise SceneError(path, "is no raster", AGAIN)
        return scene

    def path_of(self, member: str) -> Path:
        """Where a file of the product lies.

        Raises:
            SceneError: it is missing, or lies elsewhere.
        """
        check_inside(member, self.uri)
        path = self.root / member
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root)):  # resolve() raises for a link to itself
            raise SceneError(self.uri, f"has a link at {member} that leads out of the product", "put the file itself there")
        if not path.is_file():
            raise SceneError(self.uri, f"lacks the file {member}", AGAIN)
        return path


def check_inside(member: str, uri: str) -> None:
    """Refuse a name that is absolute or climbs out of its product.

    Raises:
        SceneError: naming it.
    """
    parts = PurePosixPath(member).parts
    if not parts or ".." in parts or parts[0] == "/" or "\\" in member or "\0" in member or ":" in parts[0]:
        raise SceneError(uri, f"names a file outside the product, {member!r}", "do not use it: it is damaged, or made to do harm")


def text_of(product: Product, member: str) -> str:
    """A text file of the product.

    Raises:
        SceneError: it is missing, too large or not UTF-8.
    """
    try:
        with product.open(member) as file:
            content = file.read(MAX_TEXT_BYTES + 1)
        if len(content) > MAX_TEXT_BYTES:
            raise SceneError(product.uri, f"has metadata of more than {MAX_TEXT_BYTES} bytes in {member}", AGAIN)
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SceneError(product.uri, f"has metadata that cannot be read, {member} ({error})", AGAIN) from error
    except UnicodeDecodeError as error:
        raise SceneError(product.uri, f"has metadata that are not UTF-8, {member}", AGAIN) from error


def xml_of(product: Product, member: str) -> ET.Element:
    """The root element of an XML file without declarations: entities can grow without bounds and name other files.

    Raises:
        SceneError: it is missing, malformed or has declarations.
    """
    text = text_of(product, member)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise SceneError(product.uri, f"has declarations in {member}, which can do harm", "do not use it: no real product has any")
    try:
        return ET.fromstring(text)  # noqa: S314 - its dangers lie in declarations
    except ET.ParseError as error:
        raise SceneError(product.uri, f"has metadata that are no XML, {member} ({error})", AGAIN) from error


def number_of(text: str | None, what: str, uri: str, *, positive: bool = False) -> float:
    """A finite number from metadata.

    Raises:
        SceneError: it is missing or none.
    """
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf") or (positive and value <= 0):
        raise SceneError(uri, f"has no usable {what} in its metadata", AGAIN)
    return value
