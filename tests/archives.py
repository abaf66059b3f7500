"""Small archives of real pixels, and what a run left."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import rasterio
from rasterio.windows import Window

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "data" / "s2_virginia_1024.tif"
SIDE = 160


def make_scenes(folder: Path, n: int, side: int = SIDE) -> list[Path]:
    """Write n different crops of the sample scene, some of them in a folder of their own."""
    paths = []
    with rasterio.open(SAMPLE) as src:
        for i in range(n):
            crop = Window(37 * i % (src.width - side), 53 * i % (src.height - side), side, side)
            path = folder / ("" if i % 3 else f"part {i % 2}") / f"scene_{i:03d}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            profile = {**src.profile, "driver": "GTiff", "height": side, "width": side, "transform": src.window_transform(crop)}
            profile |= {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
            with rasterio.open(path, "w", **profile) as dst:
                dst.write(src.read(window=crop))
            paths.append(path)
    return paths


def start(*arguments: str | Path, new_session: bool = False) -> subprocess.Popen[str]:
    """Start the program itself."""
    command = [sys.executable, "-m", "geoanom", *(str(argument) for argument in arguments)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=ROOT, start_new_session=new_session
    )


def geoanom(*arguments: str | Path) -> tuple[int, str]:
    """Run the program to its end; returns its exit code and what it said on stderr."""
    process = start(*arguments)
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run."""
    tree: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
    return tree


def states(folder: Path) -> dict[str, str]:
    """Path to state."""
    return {scene["path"]: scene["state"] for scene in manifest(folder)["scenes"]}


def layers(folder: Path) -> dict[str, str]:
    """Path of every file below ``layers`` to its SHA-256; leftovers of interrupted writes count."""
    files = sorted(p for p in (folder / "layers").rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
