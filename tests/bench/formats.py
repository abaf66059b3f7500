"""What becomes of every file of a folder of odd rasters: scored, or refused with which message.

    python tests/bench/formats.py ../shared/data/formats > formats.md

Each file goes through `geoanom detect` in this process, with small tiles and few epochs; a file that has no place on the
Earth is tried again with ``--pixel-space``. Prints a Markdown table and, last, the counts. A traceback would end it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from geoanom.config import load_config
from geoanom.errors import GeoanomError
from geoanom.raster.environ import lock_down

lock_down(allow_vrt=True)

from geoanom.pipeline import detect  # noqa: E402 - GDAL is loaded here, with VRT allowed

QUICK = ["embed.zoom=1", "embed.training.epochs=3", "threshold.top=5", "sources.allow=[vrt]", "fit.max_tiles=1024"]
SIZES = (64, 32, 16)


def outcome(path: Path, *sets: str) -> tuple[str, str]:
    """Kind and words; smaller tiles are tried while a scene is too small."""
    words = ""
    for size in SIZES:
        try:
            layer = detect([path], load_config(sets=[*QUICK, *sets, f"tiles.size={size}"], environ={}))[0].layer
        except GeoanomError as error:
            words = f"{error.wrong}; {error.remedy}"
            if "tiles of" not in error.wrong:
                break
        else:
            summary = layer.scenes[0]
            told = "; ".join(summary.warnings)
            return "scored", f"{summary.tiles_scored} tiles of {size} px, {summary.tiles_masked} masked" + (f"; {told}" if told else "")
    return "refused", words


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--skip", nargs="*", default=[], help="names of files that would take too long")
    args = parser.parse_args()
    counts: Counter[str] = Counter()
    print("| file | outcome | with --pixel-space |\n|---|---|---|")
    for path in sorted(p for p in args.folder.rglob("*") if p.is_file() and p.name not in args.skip):
        kind, words = outcome(path)
        again = " ".join(outcome(path, "sources.pixel_space=true")) if "--pixel-space" in words else ""
        counts[kind] += 1
        print(f"| {path.relative_to(args.folder)} | {kind}: {words} | {again} |", flush=True)
    print(f"\n{sum(counts.values())} files: {dict(counts)}", file=sys.stdout)


if __name__ == "__main__":
    main()
