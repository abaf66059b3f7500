"""The embedder: a frozen backbone and its fitted heads.

There is one head when it was learned on other imagery, and two when it was learned on the scenes themselves: then head 0
judges the tiles of half 0 and was trained on half 1, and the reverse. Embeddings always come from head 0, so that all
tiles share one space.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from geoanom.embed.training import train

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from geoanom.config import Embed
    from geoanom.embed.backbones import Autoencoder, Backbone


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What the embedder says of n tiles."""

    embedding: NDArray[np.float32]
    """(n, d)."""
    recon_error: NDArray[np.float64]
    """(n,) reconstruction error by the head that was not trained on the tile's half."""
    pixel_error: NDArray[np.float32] | None
    """(n, row, col) the same per pixel, where pixels are reconstructed."""


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """A backbone, its heads, and how they are run."""

    backbone: Backbone
    heads: tuple[Autoencoder, ...]
    settings: Embed
    device: torch.device

    def features(self, tiles: NDArray[np.float32], valid: NDArray[np.bool_]) -> Tensor:
        """Features of up to one batch of normalized tiles, (n, ...) on the CPU.

        Args:
            tiles: (n, band, row, col), normalized.
            valid: (n, row, col).
        """
        with torch.inference_mode(), self._precision():
            return self._features(tiles, valid)[: len(tiles)].float().cpu()

    def encode(self, tiles: NDArray[np.float32], valid: NDArray[np.bool_], halves: NDArray[np.int64]) -> Encoded:
        """Embed and reconstruct up to one batch of normalized tiles.

        Args:
            tiles: (n, band, row, col), normalized.
            valid: (n, row, col).
            halves: (n,) the half that each tile belongs to.
        """
        with torch.inference_mode(), self._precision():
            features = self._features(tiles, valid)
        return self._encode(features, valid, halves)

    def encode_features(self, features: Tensor, valid: NDArray[np.bool_], halves: NDArray[np.int64]) -> Encoded:
        """The same for features that are at hand, any number of them, with the same padding of batches."""
        size = self.settings.batch_size
        parts = [
            self._encode(_padded(features[i : i + size], size).to(self.device), valid[i : i + size], halves[i : i + size])
            for i in range(0, len(features), size)
        ]
        pixel = [part.pixel_error for part in parts if part.pixel_error is not None]
        return Encoded(
            embedding=np.concatenate([part.embedding for part in parts]),
            recon_error=np.concatenate([part.recon_error for part in parts]),
            pixel_error=np.concatenate(pixel) if pixel else None,
        )

    def _features(self, tiles: NDArray[np.float32], valid: NDArray[np.bool_]) -> Tensor:
        """Features of one batch padded to its fixed size, so that no result depends on how full a batch is."""
        size = self.settings.batch_size
        batch = _padded(torch.from_numpy(tiles), size).to(self.device, memory_format=torch.channels_last)
        return self.backbone.features(batch, _padded(torch.from_numpy(valid), size).to(self.device)).float()

    def _encode(self, features: Tensor, valid: NDArray[np.bool_], halves: NDArray[np.int64]) -> Encoded:
        n = len(halves)
        usable = _padded(torch.from_numpy(valid), len(features)).to(self.device)
        with torch.inference_mode():
            embedding = self.heads[0].encode(features)[:n]
            errors = [head.errors(features, usable) for head in self.heads]
        chosen = halves % len(self.heads)
        tile = np.stack([e.tile[:n].double().cpu().numpy() for e in errors])[chosen, np.arange(n)]
        pixel = [e.pixel[:n].float().cpu().numpy() for e in errors if e.pixel is not None]
        return Encoded(
            embedding=embedding.float().cpu().numpy(),
            recon_error=cast("NDArray[np.float64]", tile),
            pixel_error=np.stack(pixel)[chosen, np.arange(n)] if pixel else None,
        )

    def _precision(self) -> AbstractContextManager[object]:
        if self.settings.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()


def fit_heads(
    backbone: Backbone, features: Tensor, halves: NDArray[np.int64] | None, settings: Embed, *, seed: int, device: torch.device
) -> tuple[Autoencoder, ...]:
    """Train the heads of a backbone.

    Args:
        backbone: says what the autoencoder looks like.
        features: (n, ...) of unlabelled tiles.
        halves: (n,) the half of each tile, for one head per half; None for a single head on imagery of elsewhere.
        settings: training and architecture.
        seed: weights and order of the tiles.
        device: where to train.
    """
    if halves is None:
        return (_train_one(backbone, features, settings, seed=seed, device=device, title="training"),)
    names = ("training half 1", "training half 2")
    return tuple(
        _train_one(backbone, features[torch.from_numpy(halves != half)], settings, seed=seed, device=device, title=names[half])
        for half in range(2)
    )


def _train_one(backbone: Backbone, features: Tensor, settings: Embed, *, seed: int, device: torch.device, title: str) -> Autoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = backbone.autoencoder(settings)
    return train(model, features, settings.training, seed=seed, device=device, title=title)


def _padded(batch: Tensor, size: int) -> Tensor:
    """Repeat the first row until the batch is full."""
    short = size - len(batch)
    return torch.cat([batch, batch[:1].expand(short, *batch.shape[1:])]) if short > 0 else batch
