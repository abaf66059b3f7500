"""Which scenes a folder, a pattern, a list or a catalog holds."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
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
    root, found = _found(uri, config, _real(leave_out) if leave_out else None)
    if not found:
        raise InputError(uri, "holds no scene", "name a folder with GeoTIFFs or other rasters, or a list of them")
    unique = {entry.name: _checked(entry) for entry in _told_apart(found)}
    return Catalog(root=root, entries=tuple(unique[name] for name in sorted(unique, key=os.fsencode)))


def _found(uri: str, config: Config, left_out: Path | None) -> tuple[Path, list[Entry]]:
    """The root of an archive, and its scenes in any order."""
    path = Path(uri)
    if not uri:
        raise InputError("archive", "has an empty name", "name a folder, a pattern or a list")
    if is_catalog(uri):
        root = Path.cwd() if "://" in uri else path.absolute().parent
        return root, [_anywhere(item, root) for item in stac_items(uri, config)]
    if path.suffix.lower() in LISTS and path.is_file() and not is_landsat(path):
        return path.absolute().parent, list(_listed(path))
    if not path.exists() and is_pattern(uri):
        root = _fixed_part(uri)
        return root, [_inside(p, root) for p in _matching(uri, root, left_out) if _is_scene(p, config)]
    root = path.absolute()
    if path.is_dir() and not is_safe(path) and not is_landsat(path):
        if _real(root) == left_out:
            raise InputError(uri, "is the output folder as well", "choose another output folder, such as one inside it")
        return root, [_inside(p, root) for p in _walk(root, config, left_out)]
    return root.parent, [_anywhere(uri if "://" in uri else str(root), root.parent)]


def _told_apart(entries: Iterable[Entry]) -> list[Entry]:
    """Each place once; a digest tells places that would share a name."""
    by_place = {entry.uri: entry for entry in entries}
    counted = Counter(entry.name for entry in by_place.values())
    return [entry if counted[entry.name] == 1 else replace(entry, name=_with_digest(entry.name, entry.uri)) for entry in by_place.values()]


def _with_digest(name: str, uri: str) -> str:
    return f"{name}#{hashlib.sha256(os.fsencode(uri)).hexdigest()[:8]}"


def _matching(pattern: str, root: Path, left_out: Path | None) -> Iterator[Path]:
    """What a pattern finds below its fixed part, but nothing hidden; links to folders are not followed down, since they may go round."""
    try:
        for path in root.glob(str(Path(pattern).absolute().relative_to(root))):
            is_hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
            if not is_hidden and not (left_out and _real(path).is_relative_to(left_out)):
                yield path
    except ValueError as error:
        raise InputError(pattern, f"is no pattern ({error})", "write ** only between slashes") from error


def _walk(folder: Path, config: Config, left_out: Path | None) -> Iterator[Path]:
    """The scenes below a folder; every folder is visited once, however many links lead to it."""
    seen: set[Path] = set()
    stack = [folder]
    while stack:
        here = stack.pop()
        real = _real(here)
        if real in seen or real == left_out or not real.is_relative_to(_real(folder)):
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


def _real(path: Path) -> Path:
    """Where all links lead; `Path.resolve` raises for a link to itself."""
    return Path(os.path.realpath(path))


def _leads_out(path: Path, root: Path) -> bool:
    """Is this a link to a folder outside the archive? Those to files are asked about when they are scenes."""
    return path.is_symlink() and path.is_dir() and not _real(path).is_relative_to(_real(root))


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
        return Entry(uri=uri, name=name if name == uri else _with_digest(name, uri))
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
    if not _real(path).is_relative_to(_real(root)):
        return replace(entry, refusal=SceneError(path, "is a link that leads out of the archive", "name it in a list"))
    return entry
