"""What it costs to write a layer of a million anomalies in each format, and to read it back.

    python tests/bench/export.py --features 1000000 --work /tmp/export [--formats .gpkg .fgb] [--json]

Each format is written by a process of its own and read by another one, one after the other. `stream` is the same without a file: the
time that making the features takes, and the memory of an idle process. Prints a table in Markdown, or JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geoanom.layer.features import Feature, Features

FORMATS = (".geojson", ".geojsonl", ".gpkg", ".fgb", ".parquet", ".csv", ".kml")
STREAM = "stream"
GROUP = 4096
"""Outlines that are made at once."""
PER_ROW = 1000
"""Anomalies from west to east before the next row begins, further north."""
STEP_DEGREES = 0.01
OUTLINE = ((0, 0), (3, 0), (3, 1), (4, 1), (4, 3), (2, 3), (2, 4), (1, 4), (1, 2), (0, 2))
"""Corners of nine cells, counter-clockwise, in thousandths of a degree."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=1_000_000)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--part", nargs=2, metavar=("DEED", "FORMAT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(PARTS[given.part[0]](given.work / f"layer{given.part[1]}", given.features)))
        return
    given.work.mkdir(parents=True, exist_ok=True)
    rows = [measured(suffix, given.features, given.work, is_quiet=given.json) for suffix in (STREAM, *given.formats)]
    if given.json:
        print(json.dumps({"features": given.features, "formats": rows}, indent=1))


def measured(suffix: str, n_features: int, work: Path, *, is_quiet: bool) -> dict[str, Any]:
    """One format: written, weighed, read back."""
    if suffix == STREAM:
        row: dict[str, Any] = {"format": STREAM, "write": part("stream", suffix, n_features, work)}
    else:
        path = work / f"layer{suffix}"
        path.unlink(missing_ok=True)
        written = part("write", suffix, n_features, work)
        row = {"format": suffix, "write": written, "megabytes": round(path.stat().st_size / 1e6, 1)}
        row["read"] = part("read", suffix, n_features, work)
        path.unlink()
    if not is_quiet:
        print(line(row, has_head=suffix == STREAM), flush=True)
    return row


def part(deed: str, suffix: str, n_features: int, work: Path) -> dict[str, Any]:
    """What a process of its own tells of one deed."""
    own = [sys.executable, __file__, "--features", str(n_features), "--work", str(work), "--part", deed, suffix]
    told: dict[str, Any] = json.loads(subprocess.run(own, capture_output=True, text=True, check=True).stdout)
    return told


def line(row: dict[str, Any], *, has_head: bool) -> str:
    """A row of the table, below its head where it is the first."""
    head = "| format | write, s | CPU, s | peak, MiB | MB | read, s | CPU, s | peak, MiB | read back |\n|---|" + "---:|" * 8 + "\n"
    read = row.get("read", {})
    cells = [row["format"], *figures_of(row["write"]), row.get("megabytes", ""), *figures_of(read), read.get("features", "")]
    return (head if has_head else "") + f"| {' | '.join(map(str, cells))} |"


def figures_of(told: dict[str, Any]) -> list[Any]:
    """The cells of one deed."""
    return [told.get(name, "") for name in ("seconds", "cpu_seconds", "peak_mib")]


def stream(_: Path, n_features: int) -> dict[str, Any]:
    """Make the features and nothing else."""
    layer, begun = layer_of(n_features), time.perf_counter()
    n_made = sum(len(group) for group in layer.groups())
    return told_of(n_made, begun)


def write(path: Path, n_features: int) -> dict[str, Any]:
    """Export a layer."""
    from geoanom.registry import EXPORTERS

    layer, exporter = layer_of(n_features), EXPORTERS.load(path.suffix)
    begun = time.perf_counter()
    exporter(layer, path)
    return told_of(n_features, begun)


def read(path: Path, n_features: int) -> dict[str, Any]:
    """Go through an exported layer; every feature must be there, once."""
    from geoanom.layer.reading import read_features

    begun, n_read, ranks = time.perf_counter(), 0, 0
    for group in read_features(path).groups():
        n_read += len(group)
        ranks += sum(feature.properties["rank"] for feature in group)
    told = told_of(n_read, begun)
    assert (n_read, ranks) == (n_features, n_features * (n_features + 1) // 2), f"{path}: {n_read} of {n_features} features"
    return told


def told_of(n_features: int, begun: float) -> dict[str, Any]:
    """Seconds since then; processor time, which other programs do not lengthen, and peak memory of the whole process."""
    seconds, usage = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "features": n_features,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mib": round(usage.ru_maxrss / 1024),
    }


def layer_of(n_features: int) -> Features:
    """A layer as a detection leaves it, but for its size: names, types and lengths of the properties are those of a real anomaly."""
    from dataclasses import replace

    from places import layer_at, scene_at

    small = layer_at(scene_at("mid-latitude"))
    likeness = dict(next(small.stream()).properties)
    return replace(small, stream=lambda: features_like(likeness, n_features))


def features_like(likeness: dict[str, Any], n_features: int) -> Iterator[Feature]:
    """Anomalies in rows, each with an identity, a place and figures of its own."""
    import numpy as np
    import shapely

    from geoanom.layer.features import Feature

    outline = np.array([*OUTLINE, OUTLINE[0]]) / 1000
    for first in range(0, n_features, GROUP):
        numbers = np.arange(first, min(first + GROUP, n_features))
        corners = np.column_stack([numbers % PER_ROW, numbers // PER_ROW]) * STEP_DEGREES * (1, 0.08) - (170, 60)
        shapes = np.asarray(shapely.polygons((corners[:, None] + outline).round(7)), object)
        for n, shape, (lon, lat) in zip(numbers.tolist(), shapes, corners.tolist(), strict=True):
            yield Feature(shape, {**likeness, **figures(n, n_features), "lon": round(lon + 0.0015, 7), "lat": round(lat + 0.0015, 7)})


def figures(n: int, n_features: int) -> dict[str, Any]:
    """What differs from anomaly to anomaly."""
    score, sigma, row, col = float(f"{1 - n / n_features:.4g}"), 2 + n % 977 / 100, n % 311, n % 307
    bands = f"band 2 +{sigma:.1f}, band 1 contrast -{sigma / 2:.1f}, band 1 +{sigma / 3:.1f}"
    return {
        "anomaly_id": hashlib.sha256(str(n).encode()).hexdigest()[:16],
        "rank": n + 1,
        "score": score,
        "p_value": float(f"{10 ** (-10 * score):.4g}"),
        "q_value": float(f"{10 ** (-8 * score):.4g}"),
        "level": "high" if score > 0.6 else "medium" if score > 0.3 else "low",
        "area_m2": float(f"{87_000 + n % 9973:.7g}"),
        "n_tiles": 1 + n % 40,
        "scene": f"scene_{n // 1000:04d}.tif",
        "recon_error": float(f"{0.1 + n % 8191 / 1e4:.4g}"),
        "score_rx": float(f"{score * (0.5 + n % 499 / 1000):.4g}"),
        "score_reconstruction": float(f"{score * (0.5 + n % 491 / 1000):.4g}"),
        "top_band_sigma": float(f"{sigma:.4g}"),
        "bands": bands,
        "nearest_tiles": "; ".join(f"scene_{n % 7:04d}.tif:{row + k}:{col}@{1.5 + k + n % 89 / 100:.2f}" for k in range(3)),
        "reason": f"band 2 brighter than usual by {sigma:.1f} sigma; nearest normal tile {1 + n % 53 / 10:.1f} times as far as usual",
    }


PARTS = {"stream": stream, "write": write, "read": read}

if __name__ == "__main__":
    main()
