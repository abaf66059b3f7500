"""Time and peak memory of `geoanom fit` and `geoanom score` with every shipped configuration, as a Markdown table.

    python tests/bench/cost.py --scene data/s2_virginia_1024.tif --work /tmp/cost

Each runs in a process of its own, on one thread.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

CONFIGS = ("default", "aerial", "conv_ae", "sar", "hyperspectral")
ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Fit and score with each configuration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scene", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--configs", nargs="+", default=CONFIGS)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    print("| settings | fit, CPU s | fit, peak MiB | score, CPU s | score, peak MiB |\n|---|---:|---:|---:|---:|")
    for name in given.configs:
        model, layer = given.work / f"model_{name}", given.work / f"{name}.geojson"
        shutil.rmtree(model, ignore_errors=True)
        layer.unlink(missing_ok=True)
        fit = cost("fit", given.scene, "--config", ROOT / "configs" / f"{name}.yaml", "-o", model)
        score = cost("score", given.scene, "-m", model, "-o", layer)
        print(f"| {name} | {fit[0]:.0f} | {fit[1]:.0f} | {score[0]:.0f} | {score[1]:.0f} |", flush=True)


def cost(*arguments: str | Path) -> tuple[float, float]:
    """CPU seconds and peak memory in MiB of one run of geoanom."""
    command = [sys.executable, "-m", "geoanom", *map(str, arguments)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", "GEOANOM_RUNTIME__THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"\n{time.monotonic() - started:.0f} s in all")
