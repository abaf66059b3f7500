"""The embedder: a frozen backbone and its fitted heads.

There is one head when it was learned on other imagery, and two when it was learned on the scenes themselves: then head 0
judges the tiles of half 0 and was trained on half 1, and the reverse. Embeddings always come from head 0, so that all
tiles share one space.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from geoanom.embed.augment import augmented, turned_places
from geoanom.embed.training import train
from geoanom.embed.windows import contrasts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from geoanom.config import Embed
    from geoanom.embed.backbones import Autoencoder, Backbone
    from geoanom.embed.windows import WindowGeometry
    from geoanom.raster.blocks import TileBlock
    from geoanom.raster.normalize import Normalizer

CHUNK_TILES = 64
Block = TypeVar("Block")
Ask = Callable[["Autoencoder", Tensor, Tensor], "NDArray[np.float32]"]
"""Takes a head, some tiles' features and their places, and gives one row of numbers for each tile."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What the embedder says of n tiles."""

    embedding: NDArray[np.float32]
    """(n, d)."""
    features: NDArray[np.float32]
    """(n, F) standardized features, as the tile's judge sees them."""
    recon_error: NDArray[np.float64]
    """(n,) reconstruction error by the head that was not trained on the tile's half."""
    pixel_error: NDArray[np.float32] | None
    """(n, size, size) the same per pixel, where pixels are reconstructed."""
    windows: NDArray[np.float16] | None = None
    """(n, side, side, columns) contrasts of the windows in each tile's core, where a detector works on them."""

    def rows(self) -> dict[str, NDArray[np.floating]]:
        """What detectors can work on, by name."""
        tables: dict[str, NDArray[np.floating]] = {"embedding": self.embedding, "features": self.features}
        return tables if self.windows is None else {**tables, "windows": self.windows}


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """A normalizer, a backbone, its heads, and how they are run."""

    normalizer: Normalizer
    backbone: Backbone
    heads: tuple[Autoencoder, ...]
    settings: Embed
    device: torch.device
    geometry: WindowGeometry | None = None
    """Of the windows that a detector works on."""

    def features(self, blocks: Sequence[TileBlock], seed: int | None = None) -> Tensor:
        """Features (n, ...) of the n tiles of up to one batch of blocks, on the embedder's device.

        The batch is padded to its fixed size, so that no result depends on how full it is.

        Args:
            blocks: neighbouring tiles.
            seed: shows the backbone another view of the same tiles (`geoanom.embed.augment`); None the pixels as they are.
        """
        short = self.settings.batch_size - len(blocks)
        padded = [*blocks, *[blocks[0]] * short]
        patches = torch.from_numpy(np.stack([self.normalizer(block.values) for block in padded])).to(self.device)
        valid = torch.from_numpy(np.stack([block.valid for block in padded])).to(self.device)
        places = [list(zip(block.tops.tolist(), block.lefts.tolist(), strict=True)) for block in blocks]
        if seed is not None:
            patches, valid = augmented(patches, valid, seed)
            places = [turned_places(windows, patches.shape[-1], blocks[0].size, seed) for windows in places]
        with torch.inference_mode(), self._precision():
            return self.backbone.features(patches, valid, places).float()

    def windows(self, blocks: Sequence[TileBlock]) -> NDArray[np.float16] | None:
        """Contrasts (n, side, side, columns) of the windows in the cores of n tiles; None where no detector works on them."""
        if self.geometry is None:
            return None
        found = []
        for block in blocks:
            patch = torch.from_numpy(self.normalizer(block.values)).to(self.device)
            maps = contrasts(patch[None], torch.from_numpy(block.valid).to(self.device)[None], self.geometry)[0]
            rows, cols = (self.geometry.centres(torch.from_numpy(first).to(self.device)) for first in (block.core_tops, block.core_lefts))
            last = maps.shape[-1] - 1  # cores that reach beyond the scene may reach beyond the patch
            picked = maps[:, rows.clamp(max=last)[:, :, None], cols.clamp(max=last)[:, None, :]]  # (column, n, side, side)
            found.append(picked.permute(1, 2, 3, 0).half().cpu().numpy())
        return np.concatenate(found)

    def encode(self, features: Tensor, valid: NDArray[np.bool_], halves: NDArray[np.int64]) -> Encoded:
        """Embed and reconstruct tiles.

        Args:
            features: (n, ...).
            valid: (n, size, size) where pixels are reconstructed, anything of length n otherwise.
            halves: (n,) the half that each tile belongs to.
        """
        parts = []
        for i in range(0, len(features), CHUNK_TILES):
            chunk = slice(i, i + CHUNK_TILES)
            parts.append(self._encode(features[chunk].to(self.device), valid[chunk], halves[chunk]))
        pixel = [part.pixel_error for part in parts if part.pixel_error is not None]
        return Encoded(
            embedding=np.concatenate([part.embedding for part in parts]),
            features=np.concatenate([part.features for part in parts]),
            recon_error=np.concatenate([part.recon_error for part in parts]),
            pixel_error=np.concatenate(pixel) if pixel else None,
        )

    def reference_rows(self, features: Tensor, halves: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        """What detectors are fitted on: every tile as the judge of the other half sees it, since it is that judge's reference."""
        embedding, rows = [], []
        for i in range(0, len(features), CHUNK_TILES):
            chunk = features[i : i + CHUNK_TILES].to(self.device)
            with torch.inference_mode():
                embedding.append(_array(self.heads[0].encode(chunk)))
                rows.append(self._by_head(lambda head, part, _: _array(head.rows(part)), chunk, 1 - halves[i : i + CHUNK_TILES]))
        return {"embedding": np.concatenate(embedding), "features": np.concatenate(rows)}

    def _encode(self, features: Tensor, valid: NDArray[np.bool_], halves: NDArray[np.int64]) -> Encoded:
        usable = torch.from_numpy(valid).to(self.device)
        with torch.inference_mode():
            embedding = _array(self.heads[0].encode(features))
            rows = self._by_head(lambda head, part, _: _array(head.rows(part)), features, halves)
            tile = self._by_head(lambda head, part, i: _array(head.errors(part, usable[i]).tile), features, halves)
            pixel = None
            if self.backbone.in_pixels:
                pixel = self._by_head(lambda head, part, i: _pixel_errors(head, part, usable[i]), features, halves)
        return Encoded(embedding=embedding, features=rows, recon_error=tile.astype(np.float64), pixel_error=pixel)

    def _by_head(self, ask: Ask, features: Tensor, judges: NDArray[np.int64]) -> NDArray[np.float32]:
        """Let each tile be asked about by its judge's head."""
        chosen, out = judges % len(self.heads), None
        for h, head in enumerate(self.heads):
            places = np.flatnonzero(chosen == h)
            if len(places):
                part = ask(head, features[torch.from_numpy(places)], torch.from_numpy(places))
                out = np.empty((len(features), *part.shape[1:]), np.float32) if out is None else out
                out[places] = part
        if out is None:
            raise ValueError("no tiles to encode")
        return out

    def _precision(self) -> AbstractContextManager[object]:
        if self.settings.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Features of several batches as one tensor on the CPU."""
    return torch.cat([part.cpu() for part in parts])


def in_batches(blocks: Iterable[Block], size: int) -> Iterator[list[Block]]:
    """Blocks in lists of `size`; the last may be shorter."""
    iterator = iter(blocks)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def learns_from_views(embedder: Embedder) -> bool:
    """Whether new heads for the embedder's backbone are trained on other views of the tiles, too.

    Raises:
        ConfigError: the backbone has no such heads.
    """
    with torch.random.fork_rng(devices=[]):
        return embedder.backbone.autoencoder(embedder.settings).needs_views


def with_fitted_heads(
    embedder: Embedder,
    features: Tensor,
    halves: NDArray[np.int64] | None,
    seed: int,
    *,
    views: Tensor | None = None,
    labels: NDArray[np.int64] | None = None,
) -> Embedder:
    """The embedder with newly trained heads.

    Args:
        embedder: its backbone says what the autoencoder looks like, its settings how it is trained.
        features: (n, ...) of the tiles.
        halves: (n,) the half of each tile, for one head per half; None for a single head on imagery of elsewhere.
        seed: weights and order of the tiles.
        views: (n, ...) features of the same tiles in another view, where the heads learn from them.
        labels: (n,) of the tiles, negative for those without one, where the heads learn from them.
    """
    settings, device = embedder.settings, embedder.device
    everything = np.arange(len(features))
    parts = [everything] if halves is None else [everything[halves != half] for half in range(2)]
    codes = None if labels is None else torch.from_numpy(labels)
    heads = []
    for i, part in enumerate(torch.from_numpy(part) for part in parts):
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            head = embedder.backbone.autoencoder(settings)
            head.prepare(features)
            title, beside = f"training {i + 1}/{len(parts)}", {"views": _at(views, part), "labels": _at(codes, part)}
            heads.append(train(head, features[part], settings.training, seed=seed, device=device, title=title, **beside))
    return with_heads(embedder, heads)


def with_heads(embedder: Embedder, heads: Sequence[Autoencoder]) -> Embedder:
    """The embedder with these heads, on its device."""
    return replace(embedder, heads=tuple(head.to(embedder.device) for head in heads))


def _at(table: Tensor | None, places: Tensor) -> Tensor | None:
    return None if table is None else table[places]


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.float().cpu().numpy()
    return array


def _pixel_errors(head: Autoencoder, features: Tensor, valid: Tensor) -> NDArray[np.float32]:
    pixel = head.errors(features, valid).pixel
    if pixel is None:
        raise TypeError(f"{type(head).__name__} has no pixel errors")
    return _array(pixel)
