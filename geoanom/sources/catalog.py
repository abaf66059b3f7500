"""Which scenes a folder, a pattern, a list or a catalog holds."""

from __future__ import annotations

import glob
import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from geoanom.errors import InputError, SceneError
from geoanom.sources.landsat import is_landsat
from geoanom.sources.sentinel2 import is_safe
from geoanom.sources.stac_search import stac_items
from geoanom.sources.web import public_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from geoanom.config import Config

RASTERS = frozenset({".tif", ".tiff", ".gtiff", ".jp2", ".j2k", ".img"})
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp"})
"""Scenes only where pixel space is allowed: they have no place on the Earth."""
LISTS = frozenset({".txt", ".lst", ".list"})
WILDCARDS = frozenset("*?[")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A scene of an archive."""

    uri: str
    """What opens it."""
    name: str
    """Its path from the archive's root; undecodable bytes as surrogates."""
    refusal: SceneError | None = None
    """Why it is not opened at all."""


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """The scenes of an archive."""

    root: Path
    entries: tuple[Entry, ...]
    """In the order of their names' bytes, each once."""


def is_collection(uri: str) -> bool:
    """Does this name many scenes: a folder that is no product, a pattern, or a list?"""
    path = Path(uri)
    if path.is_dir():
        return not (is_safe(path) or is_landsat(path))
    if path.suffix.lower() in LISTS and "://" not in uri:
        return path.is_file() and not is_landsat(path)
    return is_catalog(uri) or (not path.exists() and is_pattern(uri))


def is_catalog(uri: str) -> bool:
    """May this be a STAC catalog, an item of one, or the address of an API?"""
    suffix = PurePosixPath(urlsplit(uri).path if "://" in uri else uri).suffix.lower()
    return (suffix == ".json" and not is_landsat(Path(uri))) or ("://" in uri and suffix not in RASTERS)


def is_pattern(uri: str) -> bool:
    """Are there wildcards in a name that is no URL?"""
    return "://" not in uri and not WILDCARDS.isdisjoint(uri)


def expand(uris: Iterable[str | os.PathLike[str]], config: Config) -> list[str]:
    """The scenes that are named, folders, patterns and lists replaced by what they hold.

    Raises:
        InputError: a folder, pattern or list without a scene.
    """
    found: list[str] = []
    for uri in (os.fspath(uri) for uri in uris):
        found += [entry.uri for entry in find_scenes(uri, config).entries] if is_collection(uri) else [uri]
    return found


def find_scenes(uri: str, config: Config, *, leave_out: Path | None = None) -> Catalog:
    """List the scenes of an archive without opening one.

    Args:
        uri: a folder, a pattern, a text list, or one scene.
        config: permissions, and the quality rasters, which are no scenes.
        leave_out: a folder inside the archive that is not searched: where the outputs go.

    Raises:
        InputError: it does not exist, cannot be read, or holds no scene.
    """
    path = Path(uri)
    if is_catalog(uri):
        root = Path.cwd() if "://" in uri else path.absolute().parent
        entries = [_anywhere(item, root) for item in stac_items(uri, config)]
    elif path.suffix.lower() in LISTS and path.is_file() and not is_landsat(path):
        root, entries = path.absolute().parent, list(_listed(path))
    elif not path.exists() and is_pattern(uri):
        root = _fixed_part(uri)
        entries = [_entry(Path(p).absolute(), root) for p in glob.glob(uri, recursive=True) if _is_scene(Path(p), config)]  # noqa: PTH207 - it takes absolute patterns
    elif path.is_dir() and not is_safe(path) and not is_landsat(path):
        root = path.absolute()
        entries = [_inside(p, root) for p in _walk(root, config, leave_out)]
    else:
        root = path.absolute().parent
        entries = [_anywhere(uri if "://" in uri else str(path.absolute()), root)]
    if not entries:
        raise InputError(uri, "holds no scene", "name a folder with GeoTIFFs or other rasters, or a list of them")
    unique = {entry.name: _checked(entry) for entry in entries}
    return Catalog(root=root, entries=tuple(unique[name] for name in sorted(unique, key=os.fsencode)))


def _walk(folder: Path, config: Config, leave_out: Path | None) -> Iterator[Path]:
    """The scenes below a folder; every folder is visited once, however many links lead to it."""
    left_out = leave_out.resolve() if leave_out else None
    seen: set[Path] = set()
    stack = [folder]
    while stack:
        here = stack.pop()
        real = here.resolve()
        if real in seen or real == left_out or not real.is_relative_to(folder.resolve()):
            continue
        seen.add(real)
        try:
            children = sorted(here.iterdir(), key=os.fsencode)
        except OSError as error:
            raise InputError(here, f"cannot be listed ({error.strerror})", "change its permissions, or leave it out by a list") from error
        for child in children:
            if child.name.startswith("."):
                continue
            if _is_scene(child, config) or _leads_out(child, folder):
                yield child
            elif child.is_dir():
                stack.append(child)


def _leads_out(path: Path, root: Path) -> bool:
    """Is this a link to a folder outside the archive? Those to files are asked about when they are scenes."""
    return path.is_symlink() and path.is_dir() and not path.resolve().is_relative_to(root.resolve())


def _is_scene(path: Path, config: Config) -> bool:
    """By its name, and for products by what lies in it; what it holds is checked when it is opened."""
    if path.is_dir():
        return is_safe(path) or is_landsat(path)
    suffix = path.suffix.lower()
    if _is_quality(path, config):
        return False
    if suffix == ".zip":
        return is_safe(path)
    known = suffix in RASTERS or (suffix in PICTURES and config.sources.pixel_space)
    return known or (suffix != ".hdr" and any(path.with_name(name).is_file() for name in (f"{path.name}.hdr", f"{path.stem}.hdr")))


def _is_quality(path: Path, config: Config) -> bool:
    qa = config.sources.qa
    if qa is None:
        return False
    if qa.suffix is not None:
        return path.name.endswith(qa.suffix)
    pattern = Path(qa.path or "").name
    return path.match(pattern.replace("{stem}", "*")) if pattern else False


def _listed(path: Path) -> Iterator[Entry]:
    """One scene a line, or between zero bytes; what starts with # is a comment."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "change its permissions") from error
    separator = b"\0" if b"\0" in content else b"\n"
    for line in content.removeprefix(b"\xef\xbb\xbf").split(separator):
        text = os.fsdecode(line if separator == b"\0" else line.strip())
        if text and not text.startswith("#"):
            folder = path.absolute().parent
            yield _anywhere(text if "://" in text else str(folder / text), folder)


def _anywhere(uri: str, root: Path) -> Entry:
    """The entry of a scene that need not lie below the root; addresses are told by a digest where their names are the same."""
    if "://" in uri:
        name = public_name(uri)
        return Entry(uri=uri, name=name if name == uri else f"{name}#{hashlib.sha256(uri.encode()).hexdigest()[:8]}")
    path = Path(uri)
    return _entry(path, root) if path.is_relative_to(root) else Entry(uri=uri, name=uri.lstrip("/"))


def _fixed_part(pattern: str) -> Path:
    """The folder above the first wildcard."""
    parts = []
    for part in Path(pattern).absolute().parts[:-1]:
        if not WILDCARDS.isdisjoint(part):
            break
        parts.append(part)
    return Path(*parts)


def _entry(path: Path, root: Path) -> Entry:
    return Entry(uri=str(path), name=str(path.relative_to(root)))


def _checked(entry: Entry) -> Entry:
    """The entry, refused where GDAL has no way to open a file of that name; so that a copy of it is scored all the same."""
    is_text = not any("\ud800" <= c <= "\udfff" for c in entry.uri)
    return (
        entry
        if is_text
        else replace(entry, refusal=SceneError(entry.uri, "has a name that is not UTF-8, which GDAL cannot open", "rename it"))
    )


def _inside(path: Path, root: Path) -> Entry:
    """The entry of a scene in a folder; links that lead out of the folder are refused."""
    entry = _entry(path, root)
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        return replace(entry, refusal=SceneError(path, "is a link that leads out of the archive", "name it in a list"))
    return entry
