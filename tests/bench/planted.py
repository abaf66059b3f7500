"""Plant foreign patches in a real scene and count how many of them the top places hit.

    python tests/bench/planted.py --data ../shared/data --config configs/default.yaml --seeds 5

Patches come from aerial imagery of elsewhere (NAIP) and are matched, band by band, in mean and contrast to what they
replace (``--match local``) or to the whole scene (``--match scene``), so that only texture and structure tell them apart.
Prints one JSON object per seed, then the mean.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from shapely.geometry import box

from geoanom.config import load_config
from geoanom.pipeline import detect

if TYPE_CHECKING:
    from numpy.typing import NDArray

GAP_PX = 80
N_PATCHES = 12


def plant(
    scene: NDArray[np.uint16], sources: list[NDArray[np.uint8]], *, seed: int, size: int, match: str
) -> tuple[NDArray[np.uint16], list[tuple[int, int]]]:
    """A copy of the scene (band, row, col) with patches in it, and the row and column of each patch's corner."""
    rng = np.random.default_rng([seed, size])
    out = scene.copy()
    corners: list[tuple[int, int]] = []
    while len(corners) < N_PATCHES:
        row, col = (int(rng.integers(0, side - size)) for side in scene.shape[1:])
        if all(max(abs(row - r), abs(col - c)) >= size + GAP_PX for r, c in corners):
            corners.append((row, col))
    for row, col in corners:
        patch = _draw_patch(sources, rng, size)
        there = scene[:, row : row + size, col : col + size] if match == "local" else scene
        mean, std = there.mean(axis=(1, 2), keepdims=True), there.std(axis=(1, 2), keepdims=True)
        alike = (patch - patch.mean(axis=(1, 2), keepdims=True)) / patch.std(axis=(1, 2), keepdims=True) * std + mean
        out[:, row : row + size, col : col + size] = np.clip(np.rint(alike), 0, 65535)
    return out, corners


def _draw_patch(sources: list[NDArray[np.uint8]], rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """A patch without nodata and with some contrast in every band."""
    while True:
        source = sources[int(rng.integers(len(sources)))]
        row, col = (int(rng.integers(0, side - size)) for side in source.shape[1:])
        patch = source[:, row : row + size, col : col + size].astype(np.float64)
        if not (patch == 0).all(axis=0).any() and patch.std(axis=(1, 2)).min() >= 1:
            return patch


def main() -> None:
    """Run all seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scene", default="scenes/s2_virginia_10m.tif")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", dest="sets", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--match", choices=["local", "scene"], default="local")
    parser.add_argument("--top", type=int, default=25)
    args = parser.parse_args()
    config = load_config(args.config, [*args.sets, f"threshold.top={args.top}"])
    sources = [rasterio.open(path).read() for path in sorted((args.data / "series/naip").glob("*.tif"))]
    with rasterio.open(args.data / args.scene) as src:
        scene, profile = src.read(), src.profile
    hits = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            planted, corners = plant(scene, sources, seed=seed, size=args.size, match=args.match)
            path = Path(folder) / f"planted_{seed}.tif"
            with rasterio.open(path, "w", **profile) as dst:
                dst.write(planted)
            layer = detect([path], config)[0].layer
            outlines = [anomaly.outline for anomaly in layer.anomalies]
            found = [any(box(c, r, c + args.size, r + args.size).intersects(o) for o in outlines) for r, c in corners]
            hits.append(sum(found))
            share = sum(o.area for o in outlines) / (planted.shape[1] * planted.shape[2])
            print(json.dumps({"seed": seed, "hits": sum(found), "of": len(found), "area_share": round(share, 4)}), flush=True)
    print(json.dumps({"mean_hits": float(np.mean(hits)), "of": N_PATCHES, "top": args.top, "size": args.size, "match": args.match}))


if __name__ == "__main__":
    main()
