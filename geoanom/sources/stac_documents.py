"""Documents of STAC catalogs, local and remote, and where their links may lead."""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

from geoanom.errors import SceneError
from geoanom.sources.checks import check_local_path
from geoanom.sources.remote import is_remote, remote_file
from geoanom.sources.s3 import SCHEME as S3
from geoanom.sources.web import SCHEMES, check_hop, fetch_document, public_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geoanom.config import Config

MAX_BYTES = 64 * 2**20
CATALOGS = frozenset({"Catalog", "Collection"})


@dataclass(frozen=True)
class Document:
    """A JSON object and where it came from."""

    where: str
    """Path or URL, with its secrets."""
    content: dict[str, Any]

    @property
    def name(self) -> str:
        """Path, or URL without secrets; for messages."""
        return public_name(self.where)

    @property
    def kind(self) -> str:
        """Its STAC type: Feature, FeatureCollection, Catalog, Collection; empty for what is no STAC."""
        kind = str(self.content.get("type", ""))
        return kind if "stac_version" in self.content or kind == "FeatureCollection" else ""

    @property
    def title(self) -> str:
        """The id of what it describes, without what would lead a file name elsewhere; its own file name when it has none."""
        text = str(self.content.get("id") or posixpath.basename(self.name))
        return re.sub(r"[^\w.+ -]", "_", text).lstrip(".") or "item"

    def links(self, *relations: str) -> Iterator[str]:
        """Addresses of its links of some relations, as they are written."""
        for link in _list(self.content.get("links")):
            if isinstance(link, dict) and link.get("rel") in relations and isinstance(link.get("href"), str):
                yield link["href"]


def read_document(where: str, config: Config) -> Document:
    """Read a local or remote JSON object.

    Raises:
        SceneError: it cannot be had, may not be reached, or is none.
    """
    text = _remote_bytes(where, config) if is_remote(where) else _local_bytes(where)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SceneError(public_name(where), "is not a JSON document", "name a STAC item or catalog") from error
    if not isinstance(content, dict):
        raise SceneError(public_name(where), "is not a JSON object", "name a STAC item or catalog")
    return Document(where, content)


def _remote_bytes(where: str, config: Config) -> bytes:
    file = remote_file(where, config)
    if where.lower().startswith(S3):
        return file.fetch(0, MAX_BYTES).body
    return fetch_document(where, file.name, config.sources.stac.timeout_s, MAX_BYTES).body


def _local_bytes(where: str) -> bytes:
    path = check_local_path(where)
    if path.stat().st_size > MAX_BYTES:
        raise SceneError(where, f"has more than {MAX_BYTES >> 20} MB, too much for a STAC document", "name a STAC item or catalog")
    return path.read_bytes()


def target_of(document: Document, href: str, root: Path) -> str:
    """The path or URL that an address in a document means.

    Args:
        document: where the address stands.
        href: as it is written there.
        root: the folder that a local document may name files of.

    Raises:
        SceneError: it leads to a local file from a remote document, out of the folder from a local one, or where `check_hop` forbids.
    """
    scheme = urlsplit(href).scheme.lower() if "://" in href else ""
    if scheme and f"{scheme}://" != S3 and scheme not in SCHEMES:
        raise SceneError(document.name, f"names a {scheme}: address", "name its files by relative paths, https:// or s3://")
    if scheme:
        return _judged(document, href)
    if document.where.lower().startswith(S3):
        return _beside_in_s3(document, href)
    return _judged(document, urljoin(document.where, href)) if is_remote(document.where) else _local_target(document, href, root)


def _judged(document: Document, url: str) -> str:
    if is_remote(document.where) and not url.lower().startswith(S3):
        check_hop(document.where, url, document.name, "leads")
    return url


def _beside_in_s3(document: Document, href: str) -> str:
    bucket, _, key = document.where[len(S3) :].partition("/")
    return f"{S3}{bucket}{posixpath.normpath(posixpath.join('/', posixpath.dirname(key), href))}"


def _local_target(document: Document, href: str, root: Path) -> str:
    """The file, followed through all links: it must lie below the root."""
    folder = Path(document.where).absolute().parent
    try:
        plain = folder / href
        path = (plain if plain.exists() else folder / unquote(href)).resolve()
        inside = path.is_relative_to(root.resolve())
    except (OSError, ValueError) as error:
        raise SceneError(document.name, f"names a file that cannot be reached ({href!r})", "mend the item") from error
    if not inside:
        raise SceneError(document.name, f"names a file outside its catalog ({href!r})", "put the file beside the item, or name it itself")
    return str(path)


def root_of(document: Document) -> Path:
    """The folder that a local document may name files of: that of its root catalog if it lies below it, else its own."""
    folder = Path(document.where).absolute().parent
    for href in () if is_remote(document.where) else document.links("root"):
        if "://" not in href:
            found = _catalog_folder(folder / href)
            if found is not None and folder.resolve().is_relative_to(found):
                return found
    return folder


def _catalog_folder(path: Path) -> Path | None:
    """The folder of a file that is a catalog indeed."""
    try:
        is_catalog = Document(str(path), json.loads(_local_bytes(str(path)))).kind in CATALOGS
    except (SceneError, ValueError, AttributeError, RecursionError, OSError):
        return None
    return path.resolve().parent if is_catalog else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
