"""What tells a scene from any other, and from itself as it was."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoanom.errors import SceneError
from geoanom.sources.checks import sha256_of
from geoanom.sources.remote import HEAD_BYTES, identity_of, remote_file
from geoanom.sources.stac_documents import read_document

if TYPE_CHECKING:
    from geoanom.config import Config

COMPANIONS = frozenset({".hdr", ".tfw", ".wld"})


@dataclass(frozen=True)
class Part:
    """A file of a scene."""

    path: Path
    label: str
    """What stays of its path when the scene has another name."""


def parts_of(uri: str) -> tuple[Part, ...]:
    """The files of a scene: all files of a product's folder, or a file and those beside it that share its name and say more about it.

    Of what is no file, such as an address on the net, there are none.
    """
    path = Path(uri)
    if "://" in uri:
        return ()
    if path.is_dir():
        files = sorted((p for p in path.rglob("*") if p.is_file()), key=os.fsencode)
        return tuple(Part(p, str(p.relative_to(path))) for p in files)
    beside = sorted((p for p in path.parent.glob(f"{glob.escape(path.stem)}*") if _says_more(p, path)), key=os.fsencode)
    return (Part(path, ""), *(Part(p, p.name.removeprefix(path.stem)) for p in beside))


def stamp_of(parts: tuple[Part, ...]) -> str:
    """Device, inode, size and time of change of the files; empty where one cannot be looked at."""
    try:
        states = [(part.label, part.path.stat()) for part in parts]
    except OSError:
        return ""
    lines = [f"{label}:{s.st_dev}:{s.st_ino}:{s.st_size}:{s.st_mtime_ns}" for label, s in states]
    return lines[0] if len(lines) == 1 else hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def digest_of(parts: tuple[Part, ...]) -> str:
    """SHA-256 of the content, in hex: of a single file that of its bytes; empty where one cannot be read."""
    try:
        digests = [(part.label, sha256_of(part.path)) for part in parts if part.path.is_file()]  # a FIFO would wait for ever
    except OSError:
        return ""
    if len(digests) < 2:
        return digests[0][1] if digests else ""
    return hashlib.sha256("\n".join(f"{label} {digest}" for label, digest in digests).encode(errors="surrogateescape")).hexdigest()


def remote_digest(uri: str, config: Config) -> str:
    """What a server states of a remote scene, and its first bytes, or the text of a catalog's item; empty where it cannot be had."""
    try:
        if uri.lower().endswith(".json"):
            return hashlib.sha256(json.dumps(read_document(uri, config).content, sort_keys=True).encode()).hexdigest()
        return identity_of(remote_file(uri, config).fetch(0, HEAD_BYTES))
    except SceneError:
        return ""  # the worker says why


def _says_more(candidate: Path, scene: Path) -> bool:
    """Masks, headers and quality rasters of a scene; not another scene whose name starts the same."""
    rest = candidate.name.removeprefix(scene.stem)
    return (
        candidate != scene
        and candidate.is_file()
        and (candidate.name.startswith(f"{scene.name}.") or rest.lower() in {".hdr", ".tfw", ".aux.xml"})
    )
