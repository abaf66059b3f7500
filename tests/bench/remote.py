"""Bytes that are fetched of remote scenes, against the size of the files.

    OMP_NUM_THREADS=1 python tests/bench/remote.py --work /tmp/remote

A COG of real pixels, mirrored to the side that is asked for, is served on loopback by HTTP with ranges and by a store that speaks S3;
headers count for S3 only. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import numpy as np
import rasterio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from archives import SAMPLE, geoanom, make_scenes, states
from rasters import write_raster
from servers import http_site, s3_store

from geoanom.config import load_config
from geoanom.raster.blocks import stream_panels
from geoanom.raster.grid import Window
from geoanom.raster.scene import open_scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from geoanom.raster.scene import Scene

QUICK = ("--tile-size", "32", "--set", "embed.zoom=1", "--set", "normalize.sample_pixels=20000", "--set", "fit.max_tiles=2000")
CONFIG = load_config(sets=["sources.allow=[remote]", "runtime.reader_threads=2"], environ={})
N_LISTED = 4


def main() -> None:
    """Serve, read and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--side", type=int, default=1024, help="of the scene, in pixels")
    parser.add_argument("--block", type=int, default=256, help="side of its blocks")
    given = parser.parse_args()
    shutil.rmtree(given.work, ignore_errors=True)
    given.work.mkdir(parents=True)
    files = [a_cog(given.work / f"scene_{n}.tif", given.side, given.block, n) for n in range(N_LISTED)]
    model = a_model(given.work)
    size = files[0].stat().st_size
    print(f"| {given.side} px, {len(block_count(files[0]))} blocks, {size / 1e6:.2f} MB | HTTP, MB | of the file | S3, MB | of the file |")
    print("|---|---:|---:|---:|---:|")
    by_protocol = [over_http(files, model, given.work), over_s3(files, model, given.work)]
    for name in by_protocol[0]:
        cells = [f"{got[name][0] / 1e6:.2f} | {got[name][0] / got[name][1]:.2f}" for got in by_protocol]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def a_cog(path: Path, side: int, block: int, shift: int) -> Path:
    """Real pixels, mirrored where the sample ends."""
    with rasterio.open(SAMPLE) as src:
        pixels, transform, crs = src.read(), src.transform, src.crs
    index = np.pad(np.arange(pixels.shape[1]), (0, side + 97 * shift), mode="reflect")[97 * shift :][:side]
    values = pixels[:, index][:, :, index]
    profile = {"blocksize": block, "compress": "deflate", "overviews": "NONE", "transform": transform, "crs": crs}
    return write_raster(path, values, driver="COG", **profile)


def block_count(path: Path) -> list[object]:
    """The blocks of a band."""
    with rasterio.open(path) as src:
        return list(src.block_windows(1))


def a_model(work: Path) -> Path:
    """A model of a local crop."""
    training = make_scenes(work / "training", 1, side=256)
    run(0, "fit", *training, *QUICK, "-o", work / "model")
    return work / "model"


def over_http(files: list[Path], model: Path, work: Path) -> dict[str, tuple[int, int]]:
    """Bytes fetched and bytes there, by what is done."""
    with http_site() as site:
        urls = [site.put(file.name, file.read_bytes()) for file in files]
        return measured(urls, lambda: site.bytes_served, files, model, work / "http")


def over_s3(files: list[Path], model: Path, work: Path) -> dict[str, tuple[int, int]]:
    """The same from a store, which boto3 and the programs find in the environment."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with s3_store() as wire:
        secrets = {"ACCESS_KEY_ID": "testing", "SECRET_ACCESS_KEY": "hidden", "DEFAULT_REGION": "us-east-1"}
        os.environ.update({f"AWS_{name}": value for name, value in secrets.items()}, AWS_ENDPOINT_URL=wire.url)
        client = boto3.client("s3")
        client.create_bucket(Bucket="scenes")
        for file in files:
            client.put_object(Bucket="scenes", Key=file.name, Body=file.read_bytes())
        urls = [f"s3://scenes/{file.name}" for file in files]
        return measured(urls, lambda: wire.bytes_served, files, model, work / "s3")


def measured(urls: list[str], served: Callable[[], int], files: list[Path], model: Path, out: Path) -> dict[str, tuple[int, int]]:
    """Bytes fetched and bytes there, by what is done."""
    out.mkdir()
    opened: list[Scene] = []
    listed = out / "list.txt"
    listed.write_text("\n".join(urls))
    command = ("-m", model, "--top", "5")
    deeds: dict[str, Callable[[], object]] = {
        "open": lambda: opened.append(open_scene(urls[0], CONFIG)),
        "one window of 256 px": lambda: one_window(opened[0]),
        "a full pass": lambda: sum(panel.valid.sum() for panel in stream_panels(opened[0], CONFIG)),
        "`geoanom score`": lambda: run(0, "score", urls[0], *command, "-o", out / "layer.geojson"),
        f"`geoanom archive run`, {len(urls)} scenes": lambda: archive_run(listed, command, out / "archive"),
    }
    there = dict.fromkeys(deeds, files[0].stat().st_size)
    there[list(deeds)[-1]] = sum(file.stat().st_size for file in files)
    return {name: (counted(deed, served), there[name]) for name, deed in deeds.items()}


def counted(deed: Callable[[], object], served: Callable[[], int]) -> int:
    """Bytes that a deed fetches."""
    before = served()
    deed()
    return served() - before


def one_window(scene: Scene) -> None:
    """A window on the grid of blocks."""
    with closing(scene.open_handle()) as handle:
        handle.read(Window(row_off=256, col_off=256, height=256, width=256))


def archive_run(listed: Path, command: tuple[str | Path, ...], out: Path) -> None:
    """All scenes of the list."""
    run(0, "archive", "run", listed, *command, "--set", "sources.allow=[remote]", "-o", out)
    assert list(states(out).values()) == ["done"] * N_LISTED


def run(code: int, *arguments: str | Path) -> None:
    """Run the program to its end."""
    found, errors = geoanom(*arguments)
    assert found == code, (found, errors)


if __name__ == "__main__":
    main()
