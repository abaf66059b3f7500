"""How many places are called where nothing stands out: noise, a constant, gradients; and how many touch undeclared fill.

    python tests/bench/traps.py --data ../shared/data --config configs/default.yaml

Prints one JSON object per trap.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.features import geometry_mask
from scipy.ndimage import binary_dilation

from geoanom.config import load_config
from geoanom.pipeline import detect

SIDE = 1024
N_BANDS = 4


def traps() -> dict[str, np.ndarray]:
    """Name to (band, row, col) uint16."""
    rng = np.random.default_rng(7)
    across = np.broadcast_to(np.linspace(500, 5000, SIDE), (N_BANDS, SIDE, SIDE))
    noise = rng.normal(0, 10, across.shape)
    return {
        "noise": rng.normal(2000, 100, across.shape).astype(np.uint16),
        "constant": np.full(across.shape, 1234, np.uint16),
        "gradient": across.astype(np.uint16),
        "diagonal gradient": ((across + across.transpose(0, 2, 1)) / 2).astype(np.uint16),
        "gradient and noise": (across + noise).astype(np.uint16),
    }


def main() -> None:
    """Run all traps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--fdr", type=float, default=0.05)
    args = parser.parse_args()
    config = load_config(args.config, [f"threshold.fdr={args.fdr}"])
    profile = {"driver": "GTiff", "count": N_BANDS, "height": SIDE, "width": SIDE, "dtype": "uint16", "tiled": True, "compress": "deflate"}
    with tempfile.TemporaryDirectory() as folder:
        for name, values in traps().items():
            path = Path(folder) / f"{name}.tif"
            with rasterio.open(path, "w", **profile, crs="EPSG:32618", transform=Affine(10, 0, 4e5, 0, -10, 4e6)) as dst:
                dst.write(values)
            print(json.dumps({"trap": name, "features": len(detect([path], config)[0].layer)}), flush=True)
    landsat = args.data / "scenes/l8_224078_fill0.tif"
    layer = detect([landsat], load_config(args.config, ["threshold.top=50"]))[0].layer
    with rasterio.open(landsat) as src:
        near_fill = binary_dilation((src.read() == 0).any(axis=0), iterations=1)
    touching = sum(
        bool((near_fill & geometry_mask([a.outline], near_fill.shape, Affine.identity(), all_touched=True, invert=True)).any())
        for a in layer.anomalies
    )
    print(json.dumps({"trap": "fill edge", "top": len(layer), "touching_fill": touching}), flush=True)


if __name__ == "__main__":
    main()
