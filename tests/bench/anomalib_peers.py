"""PatchCore and PaDiM of anomalib on the draws of the suite rare-tiles, with geoanom's packaged Lite0 weights.

    python -m venv peers && peers/bin/pip install . -r tests/bench/anomalib_requirements.txt
    peers/bin/python tests/bench/anomalib_peers.py --data ../shared/data --seeds 8 --json anomalib.json

Both methods want normal images to learn from, and a draw has no labels: its chips are split at random into two halves, and
each half is scored by a model that learned from the other, foreign chips and all. Prints the table in Markdown.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch
from torch.nn.functional import interpolate
from tqdm import tqdm

from geoanom.embed.lite0 import load_pretrained
from geoanom.evaluate.benchmark import part_of
from geoanom.evaluate.results import Results
from geoanom.evaluate.suites.rare_tiles import draw_chips, load_chips, measure, summarize

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BACKBONE = "tf_efficientnet_lite0"
INPUT_PX = 224
BATCH = 8


def lend_weights(extractor: torch.nn.Module) -> None:
    """Put the packaged ImageNet weights into anomalib's feature extractor."""
    whole = timm.create_model(BACKBONE, pretrained=False)
    load_pretrained(whole, "package")
    own = extractor.state_dict()
    extractor.load_state_dict({name: tensor for name, tensor in whole.state_dict().items() if name in own})  # strict: none is missing


def patchcore(seed: int, coreset: float) -> tuple[Any, Callable[[], None]]:
    """An untrained PatchCore (Roth et al. 2022, doi:10.1109/CVPR52688.2022.01392) on strides 8 and 16, and what ends its training."""
    torch.manual_seed(seed)
    model = import_module("anomalib.models.image.patchcore.torch_model").PatchcoreModel((2, 3), BACKBONE, pre_trained=False)
    return model, partial(model.subsample_embedding, coreset)


def padim(seed: int, n_features: int) -> tuple[Any, Callable[[], None]]:
    """An untrained PaDiM (Defard et al. 2021, doi:10.1007/978-3-030-68799-1_35) on strides 4, 8 and 16, and what ends its training."""
    torch.manual_seed(seed)
    module = import_module("anomalib.models.image.padim.torch_model")
    model = module.PadimModel(BACKBONE, [1, 2, 3], pre_trained=False, n_features=n_features)
    return model, model.fit


def cross_scores(build: Callable[[], tuple[Any, Callable[[], None]]], images: torch.Tensor, seed: int) -> NDArray[np.float64]:
    """Scores (n,) of images (n, 3, row, col), each by a model of the other half."""
    half = np.random.default_rng(seed).permutation(len(images)) % 2
    scores = np.empty(len(images))
    for judged in (0, 1):
        model, finish = build()
        lend_weights(model.feature_extractor.feature_extractor)
        model.train()
        model.feature_extractor.eval()
        for part in torch.split(images[torch.from_numpy(half != judged)], BATCH):
            model(part)
        finish()
        model.eval()
        with torch.inference_mode():
            found = [model(part).pred_score.reshape(-1) for part in torch.split(images[torch.from_numpy(half == judged)], BATCH)]
        scores[half == judged] = torch.cat(found).double().numpy()
    return scores


def as_input(chips: list[NDArray[np.uint8]]) -> torch.Tensor:
    """Chips (band, row, col) as Lite0's input (n, 3, 224, 224)."""
    parts = [torch.from_numpy(chip.astype(np.float32))[None] for chip in chips]
    resized = [interpolate(part, (INPUT_PX, INPUT_PX), mode="bilinear", antialias=True, align_corners=False) for part in parts]
    return (torch.cat(resized) - 127) / 128


def main() -> None:
    """Run both on every draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--chip-px", type=int, default=400)
    parser.add_argument("--coreset", type=float, default=0.01, help="share of the patches that PatchCore remembers")
    parser.add_argument("--features", type=int, default=100, help="random channels that PaDiM uses")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    progress = partial(tqdm, disable=None)
    chips = load_chips(part_of(args.data, "rsscn7"), args.chip_px, progress)
    details: list[dict[str, Any]] = []
    for seed in progress(range(args.seeds), desc="draws"):
        draw = draw_chips(chips.built, seed)
        images = as_input([chips.pixels[i] for i in draw.picked])
        builds = {"anomalib PatchCore": partial(patchcore, seed, args.coreset), "anomalib PaDiM": partial(padim, seed, args.features)}
        scores = {name: cross_scores(build, images, seed) for name, build in builds.items()}
        details += measure(scores, chips.built[draw.picked], seed)
    settings = {"draws": args.seeds, "chip_px": args.chip_px, "coreset": args.coreset, "PaDiM features": args.features}
    results = Results(suite="rare-tiles, anomalib", settings=settings, rows=summarize(details), details=tuple(details))
    print(results.markdown(), end="")
    if args.json:
        args.json.write_text(json.dumps(results.to_json(), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
