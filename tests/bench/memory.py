"""Peak memory of `geoanom score` on larger and larger rasters.

    python tests/bench/memory.py --scene ../shared/data/scenes/s2_virginia_10m.tif --sides 4000 8000 16000 --work /tmp/memory

Rasters are made by mirroring a real scene until the side is reached; one process scores each. Prints one JSON object per side.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

BLOCK_PX = 512


def enlarge(scene: Path, side: int, path: Path) -> None:
    """Write a raster of side x side pixels, block by block, from mirrored copies of a scene."""
    with rasterio.open(scene) as src:
        pixels, profile = src.read(), src.profile
    profile.update(
        height=side, width=side, tiled=True, blockxsize=BLOCK_PX, blockysize=BLOCK_PX, compress="deflate", zlevel=1, BIGTIFF="YES"
    )
    rows, cols = (np.pad(np.arange(n), (0, side), mode="reflect")[:side] for n in pixels.shape[1:])
    with rasterio.open(path, "w", **profile) as dst:
        for _, window in dst.block_windows(1):
            r, c = rows[window.row_off : window.row_off + window.height], cols[window.col_off : window.col_off + window.width]
            dst.write(pixels[:, r][:, :, c], window=Window(window.col_off, window.row_off, window.width, window.height))


def main() -> None:
    """Fit a model once, then score each raster in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", type=Path, required=True)
    parser.add_argument("--sides", type=int, nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    geoanom = [sys.executable, "-m", "geoanom"]
    model = args.work / "model"
    subprocess.run([*geoanom, "fit", str(args.scene), "-o", str(model), "--overwrite"], check=True)
    for side in args.sides:
        raster = args.work / f"{side}.tif"
        enlarge(args.scene, side, raster)
        start = time.perf_counter()
        command = [*geoanom, "score", str(raster), "-m", str(model), "-o", str(args.work / f"{side}.geojson"), "--overwrite"]
        process = subprocess.Popen(command)
        _, status, usage = os.wait4(process.pid, 0)
        took_s = time.perf_counter() - start
        raster.unlink()
        row = {
            "side_px": side,
            "peak_mb": round(usage.ru_maxrss / 1024),
            "seconds": round(took_s),
            "exit": os.waitstatus_to_exitcode(status),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
