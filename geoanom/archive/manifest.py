"""What a run leaves beside the layers: a manifest for programs, and all anomalies in one file."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from geoanom.archive.ledger import SCORED
from geoanom.archive.progress import totals_of
from geoanom.errors import one_line
from geoanom.layer.atomic import atomic_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from geoanom.archive.ledger import Row


def manifest_of(rows: Mapping[str, Row], meta: Mapping[str, str]) -> dict[str, Any]:
    """The manifest: totals, and an entry for every scene in the order of their names."""
    scored = [row for row in rows.values() if row.state in SCORED]
    totals = {
        **totals_of(rows),
        "scenes": len(rows),
        "tiles_scored": sum(row.tiles_scored for row in scored),
        "tiles_masked": sum(row.tiles_masked for row in scored),
        "anomalies": sum(row.anomalies for row in scored),
        "retries": sum(max(0, row.attempts - 1) for row in rows.values()),
    }
    return {
        "geoanom": version("geoanom"),
        "model_id": meta["model_id"],
        "config_digest": meta["config_digest"],
        "totals": totals,
        "scenes": [_entry(row) for row in rows.values()],
    }


def write_manifest(rows: Mapping[str, Row], meta: Mapping[str, str], path: Path) -> None:
    """Write the manifest.

    Raises:
        OutputError: it could not be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(manifest_of(rows, meta), indent=1, ensure_ascii=False) + "\n", "utf-8")


def _entry(row: Row) -> dict[str, Any]:
    error = None if row.error_code is None else {"code": row.error_code, "message": row.error_message}
    return {
        "path": one_line(row.name) if _is_odd(row.name) else row.name,
        **({"path_hex": row.name.encode(errors="surrogateescape").hex()} if _is_odd(row.name) else {}),
        "state": "pending" if row.state == "running" else row.state,
        "digest": row.digest or None,
        "attempts": row.attempts,
        "seconds": round(row.seconds, 3),
        "tiles_scored": row.tiles_scored,
        "tiles_masked": row.tiles_masked,
        "anomalies": row.anomalies,
        "outputs": {one_line(name) if _is_odd(name) else name: digest for name, digest in row.outputs.items()},
        "error": error,
        "duplicate_of": row.duplicate_of if row.duplicate_of is None or not _is_odd(row.duplicate_of) else one_line(row.duplicate_of),
    }


def _is_odd(name: str) -> bool:
    """Does a name hold bytes that are no UTF-8, which JSON cannot carry?"""
    return any("\ud800" <= c <= "\udfff" for c in name)
