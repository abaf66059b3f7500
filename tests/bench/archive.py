"""What an archive run survives, and what it costs: kills, full disks, lost workers, bad files, throughput, memory.

    python tests/bench/archive.py kills throughput --work /tmp/archive

Trials: kills, same, cluster, full (needs the right to mount), throughput, memory. Each prints a line of Markdown.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import rasterio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from archives import geoanom, layers, make_scenes, manifest, start, states

QUICK = ("--tile-size", "32", "--set", "embed.zoom=1", "--set", "normalize.sample_pixels=20000", "--set", "fit.max_tiles=2000")
COARSE = ("--tile-size", "256", "--stride", "256", "--set", "embed.zoom=0.25", "--set", "fit.min_tiles=8", "--set", "fit.fold_tiles=1")
"""400 megapixels in minutes; what a worker holds of a scene does not depend on it."""
CALL = ("--top", "5")
BAD = 50


def main() -> None:
    """Run the trials that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trials", nargs="+", choices=sorted(TRIALS))
    parser.add_argument("--work", type=Path, required=True)
    given = parser.parse_args()
    print("| trial | result |\n|---|---|")
    for name in given.trials:
        folder = given.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        print(f"| {name} | {TRIALS[name](folder)} |", flush=True)


def a_model(folder: Path, settings: tuple[str, ...] = QUICK, side: int = 256) -> Path:
    """A model of two other crops."""
    training = make_scenes(folder / "training", 2, side=side)
    code, errors = geoanom("fit", *training, *settings, "-o", folder / "model")
    assert code == 0, errors
    return folder / "model"


def command(scenes: Path, model: Path, out: Path, *more: str) -> tuple[str | Path, ...]:
    """An archive run."""
    return ("archive", "run", scenes, "-m", model, *CALL, *more, "-o", out)


def expect(code: int, *arguments: str | Path) -> str:
    """Run to the end with an exit code."""
    found, errors = geoanom(*arguments)
    assert found == code, (found, errors)
    return errors


def kills(folder: Path) -> str:
    """Forty kills at random moments on twelve scenes."""
    model, moments = a_model(folder), random.Random(0)
    make_scenes(folder / "scenes", 12)
    expect(0, *command(folder / "scenes", model, folder / "undisturbed"))
    done: list[int] = []
    for _ in range(40):
        process = start(*command(folder / "scenes", model, folder / "out", "--workers", "2"))
        time.sleep(moments.uniform(2.0, 12.0))
        process.kill()
        process.communicate()
        found = layers(folder / "out") if (folder / "out" / "layers").exists() else {}
        finished = {name: digest for name, digest in found.items() if ".geoanom-" not in name}  # others are leftovers of the kill
        assert finished.items() <= layers(folder / "undisturbed").items(), "a layer that is not whole stands under its name"
        done.append(len(finished))
        if done[-1] == 12:  # all were finished: begin again, as 40 kills are wanted
            shutil.rmtree(folder / "out")
    expect(0, *command(folder / "scenes", model, folder / "out"))
    same = layers(folder / "out") == layers(folder / "undisturbed")
    once = sorted(states(folder / "out").values()) == ["done"] * 12
    return f"40 kills, layers finished at each {done}; in the end byte-identical: {same}, each scene once: {once}"


def same(folder: Path) -> str:
    """One and two workers, a cluster of two and three, shuffled lists, bad files among the good."""
    from test_cluster import Cluster

    model, scenes = a_model(folder), folder / "scenes"
    paths = make_scenes(scenes, 12)
    expect(0, *command(scenes, model, folder / "one"))
    wanted = layers(folder / "one")
    expect(0, *command(scenes, model, folder / "two", "--workers", "2"))
    found = {"2 workers": layers(folder / "two") == wanted}
    for n in (2, 3):
        cluster = Cluster(n, folder / f"cluster {n}.log")
        expect(0, *command(scenes, model, folder / f"dask {n}", "--scheduler", cluster.address))
        cluster.close()
        found[f"Dask with {n}"] = layers(folder / f"dask {n}") == wanted
    names = [str(path.relative_to(scenes)) for path in paths]
    random.Random(1).shuffle(names)
    (scenes / "shuffled.txt").write_text("\n".join(names))
    expect(0, *command(scenes / "shuffled.txt", model, folder / "shuffled"))
    found["shuffled"] = layers(folder / "shuffled") == wanted
    (scenes / "shuffled.txt").unlink()
    add_bad(scenes, paths)
    expect(3, *command(scenes, model, folder / "bad", "--workers", "2"))
    found[f"{BAD} bad files among them"] = layers(folder / "bad") == wanted
    refused = [scene for scene in manifest(folder / "bad")["scenes"] if scene["error"]]
    return f"byte-identical to one worker: {found}; bad files named with a reason: {len(refused)}"


def add_bad(scenes: Path, good: list[Path]) -> None:
    """Fifty files that cannot be scored: cut, overwritten, empty, text, pipes."""
    rng = np.random.default_rng(0)
    for n in range(BAD):
        path, raw = scenes / f"bad_{n:02d}.tif", bytearray(good[n % len(good)].read_bytes())
        if n % 5 == 0:
            path.write_bytes(raw[: len(raw) // 3 + n])
        elif n % 5 == 1:
            raw[200 + n :] = rng.bytes(len(raw) - 200 - n)
            path.write_bytes(raw)
        elif n % 5 == 2:
            path.write_bytes(b"")
        elif n % 5 == 3:
            path.write_bytes(rng.bytes(5000 + n))
        else:
            os.mkfifo(path)


def cluster(folder: Path) -> str:
    """A worker killed every ten seconds in a run over thirty scenes."""
    from test_cluster import Cluster

    model = a_model(folder)
    make_scenes(folder / "scenes", 30, side=640)
    expect(0, *command(folder / "scenes", model, folder / "local", "--workers", "2"))
    machines = Cluster(2, folder / "cluster.log")
    process, killed, begun = start(*command(folder / "scenes", model, folder / "out", "--scheduler", machines.address)), 0, time.monotonic()
    while process.poll() is None:
        time.sleep(0.2)
        workers = machines.workers()
        if time.monotonic() - begun > 10 and workers:
            random.choice(workers).kill()
            killed, begun = killed + 1, time.monotonic()
    _, errors = process.communicate()
    machines.close()
    tree = manifest(folder / "out")
    done = sum(scene["state"] == "done" for scene in tree["scenes"])
    identical = layers(folder / "out") == layers(folder / "local")
    retries = tree["totals"]["retries"]
    said = errors[-200:] if process.returncode else ""
    return f"exit {process.returncode}, {killed} workers killed, {done} of 30 done, {retries} retries, byte-identical: {identical} {said}"


def full(folder: Path) -> str:
    """The disk full at twenty different points."""
    model = a_model(folder)
    make_scenes(folder / "scenes", 6)
    expect(0, *command(folder / "scenes", model, folder / "undisturbed"))
    wanted, codes = layers(folder / "undisturbed"), []
    for n in range(20):
        disk = folder / "disk"
        disk.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={40 + 12 * n}k", "tmpfs", str(disk)], check=True)
        try:
            code, errors = geoanom(*command(folder / "scenes", model, disk / "out"))
            codes.append(code)
            found = layers(disk / "out") if (disk / "out" / "layers").exists() else {}
            assert found.items() <= wanted.items(), (n, "a partial file under a final name")
            assert code in (0, 5), (code, errors)
            subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
            expect(0, *command(folder / "scenes", model, disk / "out"))
            assert layers(disk / "out") == wanted
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    return f"exit codes {codes}; no partial file under a final name, each run went on to the end with more space"


def throughput(folder: Path) -> str:
    """Two workers against one on forty small scenes, and the overhead over scoring the same scenes one after the other in one process."""
    model = a_model(folder)
    paths = make_scenes(folder / "scenes", 40, side=512)
    seconds: dict[str, float] = {}
    runs: dict[str, tuple[str | Path, ...]] = {
        "score": ("score", *paths, "-m", model, *CALL, "-o", folder / "all.geojson"),
        "1 worker": command(folder / "scenes", model, folder / "one"),
        "2 workers": command(folder / "scenes", model, folder / "two", "--workers", "2"),
    }
    for name, arguments in runs.items():
        begun = time.monotonic()
        process = start(*arguments, "--set", "runtime.threads=1")
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        seconds[name] = time.monotonic() - begun
    overhead, gain = seconds["1 worker"] / seconds["score"] - 1, seconds["1 worker"] / seconds["2 workers"]
    told = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    return f"{told}; 2 workers {gain:.2f} x as fast as 1; overhead over score {overhead:.1%}"


def memory(folder: Path) -> str:
    """A worker's memory on a scene of 20 000 x 20 000 pixels."""
    model, path = a_model(folder, COARSE, side=1000), folder / "scenes" / "large.tif"
    path.parent.mkdir()
    with rasterio.open(make_scenes(folder / "small", 1, side=1000)[0]) as src:
        profile = {**src.profile, "height": 20_000, "width": 20_000, "compress": "lzw", "blockxsize": 256, "blockysize": 256}
        tile = src.read()
    with rasterio.open(path, "w", **profile) as dst:
        for row in range(0, 20_000, 1000):
            for col in range(0, 20_000, 1000):
                dst.write(tile, window=rasterio.windows.Window(col, row, 1000, 1000))
    process, peak = start(*command(path.parent, model, folder / "out", "--set", "archive.memory_mb=3072")), 0
    while process.poll() is None:
        time.sleep(0.5)
        try:
            peak = max([peak, *(child.memory_info().rss for child in psutil.Process(process.pid).children())])
        except psutil.Error:
            continue
    _, errors = process.communicate()
    said = " ".join(errors[-200:].split()) if process.returncode else ""
    return f"exit {process.returncode}, peak {peak / 2**20:.0f} MiB under a limit of 3072 MB {said}"


TRIALS = {"kills": kills, "same": same, "cluster": cluster, "full": full, "throughput": throughput, "memory": memory}

if __name__ == "__main__":
    main()
