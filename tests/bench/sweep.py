"""How the embedding's width, source and kind change what detectors find.

    python tests/bench/sweep.py --data ../shared/data --figure .github/sweep.png --json sweep.json

Heads of the default backbone's plain view are fitted on the scored archive, or once on broad imagery and frozen, or on both in turn.
An archive is a draw of the suite rare-tiles, or a scene with plants of the suite planted. No label is learned from, and nothing that
is scored helps to fit the frozen heads. Detectors are fitted on half an archive and score the other half. Takes some minutes.
"""

from __future__ import annotations

import argparse
import copy
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from io import StringIO
from itertools import chain, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from tqdm import tqdm

from geoanom.config import Config, Embed, Head, Runtime, Sources, Tiles, Training
from geoanom.config.pretraining import load_pretraining
from geoanom.detect.ensemble import half_of
from geoanom.embed.augment import augmented
from geoanom.embed.backbones import build_backbone
from geoanom.embed.crops import N_COLOURS, PLAIN_COLUMNS, plain_features
from geoanom.embed.embedder import Embedder, in_batches, joined
from geoanom.embed.head_kinds import build_head
from geoanom.embed.linear import PrincipalComponents
from geoanom.embed.lite0 import LAST_STAGE, STAGES
from geoanom.embed.threads import one_thread
from geoanom.embed.training import train
from geoanom.evaluate.benchmark import SEEDS, part_of
from geoanom.evaluate.grounds import find_grounds, read_ground
from geoanom.evaluate.metrics import average_precision
from geoanom.evaluate.suites.planted import plant_copy
from geoanom.evaluate.suites.rare_tiles import draw_chips, load_chips, mosaic
from geoanom.model.pretrain import BATCH_VIEWS, find_scenes, pairs_of_views
from geoanom.model.sampling import draw_sample
from geoanom.raster.fill import with_border_fill
from geoanom.raster.normalize import fit_normalizer
from geoanom.registry import DETECTORS
from geoanom.sources.array import array_scene

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from geoanom.embed.autoencoder import FeatureHead
    from geoanom.embed.backbones import Backbone
    from geoanom.evaluate.grounds import Ground
    from geoanom.evaluate.suites.rare_tiles import Chips

PRETRAINING = Path(__file__).parents[2] / "configs" / "pretrain.yaml"
SIDE_PX, FOLD_TILES, SEED, CPU = 64, 8, 0, torch.device("cpu")
CONFIG = Config(sources=Sources(pixel_space=True), runtime=Runtime(device="cpu", threads=1), tiles=Tiles(size=SIDE_PX))
N_COLUMNS = sum(STAGES.values()) + sum(LAST_STAGE.values())
PLAIN = slice(PLAIN_COLUMNS - N_COLUMNS, PLAIN_COLUMNS)
"""The network's features in the plain view; statistics of the pixels, where a version has them in front, take no part."""
LEAST_PLANTED = 0.2
"""Share of a tile's core that must be planted for the tile to count as an anomaly; other tiles that see a plant do not count at all."""
DIMS = (2, 4, 8, 12, 16, 24, 32, 64)
KINDS = {"pca": "PCA", "autoencoder": "FC autoencoder", "contrastive": "contrastive"}
SOURCES = {"broad": "broad, frozen", "tuned": "broad, fine-tuned on the archive", "archive": "fitted on the archive"}
RAW = "raw"
DETECTOR_PARAMS: dict[str, dict[str, Any]] = {"knn": {"k": 10, "as_is": True}, "rx": {}, "ecod": {}}
ON_BROAD = Training(epochs=20)
ON_ARCHIVE = Training(epochs=20, batch_size=32)
"""About as many steps as the default's 60 epochs in batches of 128 take on so few tiles."""
TUNING = Training(epochs=10, batch_size=32, learning_rate=ON_ARCHIVE.learning_rate / 10)
COLOURS = {"broad": "#0b6e99", "tuned": "#d9822b", "archive": "#b3123f", RAW: "0.35"}
STYLES: dict[str, dict[str, Any]] = {
    "knn": {"linewidth": 2.2, "marker": "o", "markersize": 4},
    "rx": {"linewidth": 0.8, "linestyle": (0, (5, 2))},
    "ecod": {"linewidth": 0.8, "linestyle": (0, (1, 1.5))},
}


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Features that heads learn from."""

    features: Tensor
    """(n, F)."""
    views: Tensor
    """(n, F) of the same tiles in another view."""


@dataclass(frozen=True, kw_only=True)
class Archive(Pairs):
    """Tiles among which the anomalies are to be found."""

    suite: str
    name: str
    halves: NDArray[np.int64]
    truth: NDArray[np.bool_]
    """(n,) True = anomaly."""
    counted: NDArray[np.bool_]
    """(n,) True = takes part in the average precision."""


def broad_pairs(data: Path) -> Pairs:
    """Both views of each square of `geoanom pretrain`, each beside the other."""
    settings = load_pretraining(PRETRAINING)
    config = CONFIG.model_copy(update={"seed": settings.seed, "embed": Embed(zoom=settings.zoom)})
    backbone = build_backbone(config.embed, N_COLOURS, settings.side_px)
    drawn = chain.from_iterable(pairs_of_views(each, settings, config) for each in find_scenes(settings, data, config))
    pairs = features_of(backbone, joined(list(tqdm(drawn, "broad", disable=None)))).reshape(-1, 2, N_COLUMNS)
    return Pairs(features=pairs.flatten(0, 1), views=pairs.flip(1).flatten(0, 1))


def chip_archives(data: Path) -> list[Archive]:
    """Draws of chips of nature with 2 % built ones."""
    chips = load_chips(part_of(data, "rsscn7"), SIDE_PX, partial(tqdm, disable=None))
    return [chip_archive(chips, seed) for seed in tqdm(range(SEEDS["rare-tiles"]), "draws", disable=None)]


def chip_archive(chips: Chips, seed: int) -> Archive:
    """One draw; each chip is a patch of its own, normalized like the mosaic of all."""
    draw = draw_chips(chips.built, seed)
    normalizer = fit_normalizer([array_scene(mosaic(chips.pixels, draw))], CONFIG)
    patches = torch.from_numpy(np.stack([normalizer(chips.pixels[i]) for i in draw.picked]))
    others, _ = augmented(patches, torch.ones(len(patches), SIDE_PX, SIDE_PX, dtype=torch.bool), seed)
    backbone = build_backbone(CONFIG.embed, N_COLOURS, SIDE_PX)
    features, views = (features_of(backbone, seen) for seen in (patches, others))
    rows, cols = np.divmod(np.arange(len(patches)), draw.n_cols)
    return Archive(
        suite="rare-tiles",
        name=f"draw {seed}",
        features=features,
        views=views,
        halves=half_of(rows, cols, FOLD_TILES),
        truth=chips.built[draw.picked],
        counted=np.ones(len(patches), bool),
    )


def features_of(backbone: Backbone, patches: Tensor) -> Tensor:
    """Features (n, F) of patches that are a tile each."""
    return joined([plain_features(backbone, joined(part))[:, PLAIN] for part in in_batches(patches[:, None], 2 * BATCH_VIEWS)])


def planted_archives(data: Path) -> list[Archive]:
    """One planted copy of each OSCD scene."""
    grounds = [read_ground(path, CONFIG) for path in find_grounds(data) if path.parent.name == "oscd"]
    return [planted_archive(grounds, i) for i in tqdm(range(len(grounds)), "plants", disable=None)]


def planted_archive(grounds: Sequence[Ground], i: int) -> Archive:
    """All tiles of a planted copy, cut and seen as `geoanom fit` does."""
    planted = plant_copy(grounds, i, copy=i, seed=SEED)
    scene = with_border_fill(array_scene(planted.values, valid=planted.valid, name=grounds[i].name))
    backbone = build_backbone(CONFIG.embed, len(scene.bands), SIDE_PX)
    embedder = Embedder(normalizer=fit_normalizer([scene], CONFIG), backbone=backbone, heads=(), settings=CONFIG.embed, device=CPU)
    sample = draw_sample([scene], CONFIG, embedder, with_views=True)
    places, grid = list(zip(sample.rows.tolist(), sample.cols.tolist(), strict=True)), scene.grid(CONFIG)
    truth = np.array([(planted.labels[grid.core(*place).slices] > 0).mean() >= LEAST_PLANTED for place in places])
    seen = np.array([planted.labels[grid.window(*place).slices].any() for place in places])
    return Archive(
        suite="planted",
        name=grounds[i].name,
        features=sample.features[:, PLAIN],
        views=cast("Tensor", sample.views)[:, PLAIN],
        halves=half_of(sample.rows, sample.cols, FOLD_TILES),
        truth=truth,
        counted=truth | ~seen,
    )


def learned(kind: str, dim: int, tiles: Pairs, settings: Training) -> FeatureHead:
    """A new head of the tiles, with the package's own settings but for the training."""
    torch.manual_seed(SEED)
    head = build_head(Embed(dim=dim, head=Head.model_validate({"kind": kind})), N_COLUMNS)
    head.prepare(tiles.features)
    return trained(head, tiles, settings)


def trained(head: FeatureHead, tiles: Pairs, settings: Training) -> FeatureHead:
    """The head, trained; hundreds of progress bars would hide the one of the sweep."""
    with redirect_stderr(StringIO()):
        train(head, tiles.features, settings, seed=SEED, device=CPU, title="", views=tiles.views)
    return head


def tuned(head: FeatureHead, broad: Pairs, archive: Pairs) -> FeatureHead:
    """A copy of a broad head that has also learned from the archive; the standardization stays."""
    own = copy.deepcopy(head)
    if isinstance(own, PrincipalComponents):
        both = [torch.cov(own.rows(tiles.features).double().T) for tiles in (broad, archive)]
        own.axes.copy_(torch.linalg.eigh(sum(both)).eigenvectors.flip(1)[:, : own.axes.shape[1]])
        return own
    return trained(own.requires_grad_(requires_grad=True), archive, TUNING)


def records_of(kind: str, source: str, dim: int | str, rows: Tensor, archive: Archive) -> list[dict[str, Any]]:
    """The average precision of each detector on embedded tiles (n, d)."""
    table = rows.detach().numpy()
    told = {"suite": archive.suite, "archive": archive.name, "kind": kind, "source": source, "dim": dim}
    told |= {"tiles": int(archive.counted.sum()), "anomalies": int(archive.truth.sum())}
    return [{**told, "detector": name, "ap": cross_fitted(name, table, archive)} for name in DETECTOR_PARAMS]


def cross_fitted(name: str, rows: NDArray[np.float32], archive: Archive) -> float:
    """Average precision where each half's tiles are judged by a detector of the other half."""
    scores = np.empty(len(rows))
    for half in (0, 1):
        detector = DETECTORS.load(name)(**DETECTOR_PARAMS[name])
        detector.fit(rows[archive.halves != half], SEED)
        scores[archive.halves == half] = detector.score(rows[archive.halves == half])
    return average_precision(scores[archive.counted], archive.truth[archive.counted])


def sweep(broad: Pairs, archives: Sequence[Archive]) -> list[dict[str, Any]]:
    """One record for each archive, kind, source, dimension and detector."""
    records = []
    for archive in archives:
        own = PrincipalComponents(N_COLUMNS, 1)  # of which only the standardization is used
        own.prepare(archive.features)
        records += records_of(RAW, RAW, RAW, own.rows(archive.features), archive)
    for kind, dim in tqdm(list(product(KINDS, DIMS)), "heads", disable=None):
        frozen = learned(kind, dim, broad, ON_BROAD)
        for archive in archives:
            heads = {"broad": frozen, "tuned": tuned(frozen, broad, archive), "archive": learned(kind, dim, archive, ON_ARCHIVE)}
            for source, head in heads.items():
                records += records_of(kind, source, dim, head.encode(archive.features), archive)
    return records


def table(means: pd.DataFrame) -> str:
    """Heads and detectors down, dimensions across."""
    wide = means.pivot_table(index=["suite", "detector", "kind", "source"], columns="dim", values="ap", sort=False)
    return wide[[*DIMS, RAW]].to_string(float_format="{:.3f}".format, na_rep="")


def draw_figure(means: pd.DataFrame, path: Path) -> None:
    """Average precision over dimensions: suites down, kinds across, sources in colour."""
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True, sharey="row")
    for line, suite in zip(axes, means["suite"].unique(), strict=True):
        line[0].set(ylabel="average precision", ylim=(0, 1.05 * means[means["suite"] == suite]["ap"].max()))
        for panel, kind in zip(line, KINDS, strict=True):
            draw_panel(panel, means[(means["suite"] == suite) & means["kind"].isin([kind, RAW])])
            panel.set_title(f"{suite}: {KINDS[kind]}", fontsize=11)
    axes[1, 1].set_xlabel("dimensions of the embedding (dotted upright: the default)")
    figure.legend(handles=legend_lines(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=100)


def draw_panel(panel: Any, part: pd.DataFrame) -> None:
    """The lines of one suite and kind."""
    panel.set_xscale("log", base=2)
    panel.set_xticks(DIMS, labels=map(str, DIMS))
    panel.minorticks_off()
    panel.grid(axis="y", color="0.92")
    panel.axvline(CONFIG.embed.dim, color="0.6", linewidth=0.8, linestyle=":")
    for source, detector in product(COLOURS, STYLES):
        own = part[(part["source"] == source) & (part["detector"] == detector)]
        style = {**STYLES[detector], "color": COLOURS[source]}
        if source == RAW:
            panel.axhline(own["ap"].item(), **{**style, "marker": ""}, zorder=1)
        else:
            panel.plot(own["dim"].astype(int), own["ap"], **style)


def legend_lines() -> list[Line2D]:
    """Colours of the sources and styles of the detectors, column by column."""
    titles = (SOURCES | {RAW: "raw features, no head"}).items()
    colours = [Line2D([], [], color=COLOURS[name], linewidth=2.2, label=title) for name, title in titles]
    return colours + [Line2D([], [], color="0", **STYLES[name], label=name.upper()) for name in STYLES]


@one_thread()
def main() -> None:
    """Sweep, print the tables, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--figure", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    records = pd.DataFrame(sweep(broad_pairs(args.data), [*chip_archives(args.data), *planted_archives(args.data)]))
    means = records.groupby(["suite", "kind", "source", "dim", "detector"], sort=False)["ap"].mean().reset_index()
    print(table(means))
    if args.json:
        records.to_json(args.json, orient="records", indent=1)
    draw_figure(means, args.figure)


if __name__ == "__main__":
    main()
