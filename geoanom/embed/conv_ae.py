"""A small convolutional autoencoder on pixels, trained from scratch on the scene's own tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from geoanom.embed.backbones import Autoencoder, Backbone, Errors
from geoanom.embed.views import two_views
from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geoanom.config import Embed
    from geoanom.embed.backbones import Places

CHANNELS = (32, 64, 64)
REDUCTION = 2 ** len(CHANNELS)


class Pixels(Backbone):
    """No network at all: the features are the normalized pixels."""

    def __init__(self, n_bands: int, tile_size: int) -> None:
        """Take any number of bands; the side of a tile must be a multiple of the autoencoder's reduction."""
        super().__init__()
        if tile_size % REDUCTION:
            raise ConfigError("tiles.size", f"conv_ae needs a multiple of {REDUCTION}", f"use {-(-tile_size // REDUCTION) * REDUCTION}")
        self.n_features = (n_bands, tile_size, tile_size)

    def features(self, patches: Tensor, valid: Tensor, places: Sequence[Places]) -> Tensor:
        """The tiles' own pixels, those that are not valid filled with the mean around them, (n, band, size, size)."""
        size = self.n_features[1]
        filled = two_views(patches, valid, size)[:, : self.n_features[0]]
        return torch.stack([filled[b, :, t : t + size, c : c + size] for b, windows in enumerate(places) for t, c in windows])

    def autoencoder(self, settings: Embed) -> ConvAutoencoder:
        """A convolutional autoencoder of the pixels."""
        return ConvAutoencoder(*self.n_features[:2], settings.dim)


class ConvAutoencoder(Autoencoder):
    """Strided convolutions to a d-dimensional bottleneck and back (Masci et al. 2011, doi:10.1007/978-3-642-21735-7_7)."""

    def __init__(self, n_bands: int, tile_size: int, dim: int) -> None:
        """Draw the weights from torch's global generator."""
        super().__init__()
        widths = (n_bands, *CHANNELS)
        side = tile_size // REDUCTION
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for thin, wide in zip(widths[:-1], widths[1:], strict=True):
            down += [nn.Conv2d(thin, wide, 3, stride=2, padding=1), nn.GELU()]
            up = [nn.ConvTranspose2d(wide, thin, 4, stride=2, padding=1), nn.GELU(), *up]
        flat = CHANNELS[-1] * side * side
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, dim))
        self.decoder = nn.Sequential(nn.Linear(dim, flat), nn.GELU(), nn.Unflatten(1, (CHANNELS[-1], side, side)), *up[:-1])

    def prepare(self, features: Tensor) -> None:
        """Nothing: pixels are normalized already."""

    def rows(self, features: Tensor) -> Tensor:
        """The embedding: pixels are no rows for a detector."""
        return self.encode(features)

    def encode(self, features: Tensor) -> Tensor:
        """(n, band, row, col) to (n, d)."""
        embedding: Tensor = self.encoder(features.float())
        return embedding

    def losses(self, features: Tensor) -> Tensor:
        """Mean squared error of the pixels, (n,)."""
        return self._squared(features).mean(dim=(1, 2))

    def errors(self, features: Tensor, valid: Tensor) -> Errors:
        """Mean squared error per tile, and root mean squared error per pixel, over the bands."""
        squared = self._squared(features) * valid
        mean = squared.sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp_min(1)
        return Errors(tile=mean, pixel=squared.sqrt())

    def _squared(self, features: Tensor) -> Tensor:
        """Squared error averaged over the bands, (n, row, col)."""
        target = features.float()
        return (self.decoder(self.encoder(target)) - target).square().mean(dim=1)


def build(settings: Embed, n_bands: int, tile_size: int) -> Pixels:  # noqa: ARG001 - every builder takes the settings
    """Build the backbone for a number of bands and a side of tiles."""
    return Pixels(n_bands, tile_size)
