"""Where the outputs of each scene go, and whether they are still what was written."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from geoanom.layer.atomic import is_leftover, remove_leftover
from geoanom.sources.checks import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from geoanom.sources.catalog import Catalog

LONGEST_NAME = 200
"""Bytes; file systems take 255, and suffixes need some."""
FOLDERS = ("layers", "heatmaps", "embeddings")


def layer_names(catalog: Catalog) -> dict[str, str]:
    """Path of each scene's layer from the output folder: that of the scene without suffix, with it where two would share one."""
    bare = {entry.name: _inside(os.path.splitext(entry.name)[0]) for entry in catalog.entries}  # noqa: PTH122 - names need not be paths
    whole = _where_shared(bare, {name: _inside(name) for name in bare})
    unique = _where_shared(whole, {name: f"{_inside(name)}-{_short_digest(name)}" for name in bare})
    return {name: f"layers/{stem}.geojson" for name, stem in unique.items()}


def _where_shared(names: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    """The other value of those that would have the same."""
    counted = Counter(names.values())
    return {name: others[name] if counted[value] > 1 else value for name, value in names.items()}


def _short_digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:8]


def _inside(name: str) -> str:
    """A relative path without a way up, whatever a list or an address says, and of parts that have room for a suffix."""
    parts = [part for part in name.replace("://", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(map(_short, parts)) or "scene"


def _short(part: str) -> str:
    """A name that a file system takes; what is cut off is told by a digest."""
    raw = os.fsencode(part)
    return part if len(raw) <= LONGEST_NAME else f"{raw[:LONGEST_NAME].decode(errors='ignore')}-{_short_digest(part)}"


def intact(folder: Path, outputs: Mapping[str, str]) -> bool:
    """Do all outputs stand there as they were written?"""
    try:
        return bool(outputs) and all(sha256_of(folder / name) == digest for name, digest in outputs.items())
    except OSError:
        return False


def remove_outputs(folder: Path, outputs: Iterable[str]) -> None:
    """Remove the outputs of a scene that is done again, so that nothing of an older run stands beside the new."""
    for name in outputs:
        with suppress(OSError):
            (folder / name).unlink()


def sweep(folder: Path) -> None:
    """Remove what interrupted writes have left; only while no other run works on the folder."""
    for place in (folder, *(folder / name for name in FOLDERS)):
        for here, names, files in os.walk(place):
            for name in [name for name in (*names, *files) if is_leftover(name)]:
                remove_leftover(os.path.join(here, name))  # noqa: PTH118 - names need not be decodable
            if place == folder:
                break
