"""What tells a scene from any other, and from itself as it was."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

from geoanom.errors import GeoanomError, SceneError
from geoanom.sources.checks import sha256_of
from geoanom.sources.landsat import is_landsat
from geoanom.sources.quality import quality_path
from geoanom.sources.remote import HEAD_BYTES, identity_of, remote_file
from geoanom.sources.sentinel2 import is_safe
from geoanom.sources.stac import asset_targets, is_item_uri
from geoanom.sources.stac_documents import read_document

if TYPE_CHECKING:
    from collections.abc import Callable

    from geoanom.config import Config

AFTER_NAME = (".hdr", ".msk", ".msk.ovr", ".ovr", ".aux.xml")
AFTER_STEM = (".hdr", ".tfw", ".wld", ".aux.xml")
"""How the names of headers, masks and world files end; to list a folder of thousands for each scene would take too long."""


@dataclass(frozen=True)
class Part:
    """A file of a scene."""

    path: Path
    label: str
    """What stays of its path when the scene has another name."""


def stamp_of(uri: str, config: Config) -> str:
    """What changes when a scene is replaced, without reading its pixels; empty where it cannot be looked at."""
    if _is_item(uri):
        return _item(uri, config, _stamp_of)
    return _remote_digest(uri, config) if "://" in uri else _stamp_of(parts_of(uri, config))


def digest_of(uri: str, config: Config) -> str:
    """SHA-256 of a scene's content, in hex: of a single file that of its bytes; empty where it cannot be read."""
    if _is_item(uri):
        return _item(uri, config, _digest_of)
    return _remote_digest(uri, config) if "://" in uri else _digest_of(parts_of(uri, config))


def _is_item(uri: str) -> bool:
    return is_item_uri(uri) and not is_landsat(Path(uri))


def parts_of(uri: str, config: Config) -> tuple[Part, ...]:
    """The files of a scene: all of a product, or a file and those beside it that say more about it; and its quality raster.

    Where it cannot be looked at there are none.
    """
    path = Path(uri)
    try:
        if is_landsat(path) or (is_safe(path) and path.suffix.lower() != ".zip"):
            own = _below(path if path.is_dir() else path.parent)
        else:
            own = [Part(path, ""), *_beside(path), *_named_in(path)]
        return (*own, *_quality(uri, config))
    except OSError:
        return ()


def _below(folder: Path) -> list[Part]:
    files = sorted((p for p in folder.rglob("*") if p.is_file() and _is_below(p, folder)), key=os.fsencode)
    return [Part(p, str(p.relative_to(folder))) for p in files]


def _beside(path: Path) -> list[Part]:
    """Headers, masks and world files of a scene; not another scene whose name starts the same."""
    labels = {*(path.suffix + end for end in AFTER_NAME), *AFTER_STEM} - {path.suffix}
    both_cases = sorted({case for label in labels for case in (label, label.upper())} - {path.suffix})
    places = [(path.with_name(path.stem + label), label) for label in both_cases]
    return [Part(place, label) for place, label in places if place.is_file() and (path.is_symlink() or _is_below(place, path.parent))]


def _named_in(path: Path) -> list[Part]:
    """The files that a VRT refers to."""
    if path.suffix.lower() != ".vrt" or not path.is_file():
        return []
    names = re.findall(r"<SourceFilename[^>]*>([^<]+)</SourceFilename>", path.read_text("utf-8", errors="replace"))
    places = sorted({path.parent / unescape(name) for name in names})
    return [Part(place, f"source {n}") for n, place in enumerate(places) if place.is_file()]


def _is_below(path: Path, folder: Path) -> bool:
    """A link that leads out of its folder is not followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _quality(uri: str, config: Config) -> list[Part]:
    """The quality raster that the settings name, if it is there."""
    try:
        return [Part(quality_path(uri, config.sources.qa), "quality")] if config.sources.qa else []
    except SceneError:
        return []  # the worker says why


def _item(uri: str, config: Config, of_files: Callable[[tuple[Part, ...]], str]) -> str:
    """What is told of a STAC item: its text, its local assets, and what servers state of the others."""
    try:
        text = json.dumps(read_document(uri, config).content, sort_keys=True)
        targets = asset_targets(uri, config)
        local = tuple(Part(Path(target), str(n)) for n, target in enumerate(targets) if "://" not in target)
        remote = [_remote_digest(target, config) for target in targets if "://" in target]
        return _joined([text, of_files(local), *remote])
    except GeoanomError:
        return ""  # the worker says why


def _stamp_of(parts: tuple[Part, ...]) -> str:
    """Device, inode, size and time of change of the files; empty where one cannot be looked at, or there is none."""
    try:
        states = [(part.label, part.path.stat()) for part in parts]
    except OSError:
        return ""
    lines = [f"{label}:{s.st_dev}:{s.st_ino}:{s.st_size}:{s.st_mtime_ns}" for label, s in states]
    return lines[0] if len(lines) == 1 else _joined(lines)


def _digest_of(parts: tuple[Part, ...]) -> str:
    try:
        digests = [(part.label, sha256_of(part.path)) for part in parts if part.path.is_file()]  # a FIFO would wait for ever
    except OSError:
        return ""
    if len(digests) < 2:
        return digests[0][1] if digests else ""
    return _joined([f"{label} {digest}" for label, digest in digests])


def _joined(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest() if lines else ""


def _remote_digest(uri: str, config: Config) -> str:
    """What a server states of a remote scene, and its first bytes; empty where it cannot be had."""
    try:
        return identity_of(remote_file(uri, config).fetch(0, HEAD_BYTES))
    except GeoanomError:
        return ""  # the worker says why
