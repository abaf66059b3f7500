"""A small convolutional autoencoder on pixels, trained from scratch on the scene's own tiles."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from geoanom.embed.backbones import Autoencoder, Backbone, Errors
from geoanom.embed.head_kinds import kind_of
from geoanom.embed.texture import pixel_columns, tile_columns
from geoanom.embed.variational import bound, drawn_code, split_code
from geoanom.embed.views import N_VIEWS, two_views
from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geoanom.config import Embed
    from geoanom.embed.backbones import Places

CHANNELS = (16, 32, 64, 64)
REDUCTION = 2 ** len(CHANNELS)
GAIN = 4.0
"""The network sees (x - 1/2) * GAIN."""
CLIP = 4.0
"""Rows are bent towards this many robust standard deviations."""
SHRINKAGE = 0.05
SAMPLE_TILES = 512
"""Tiles from which the texture of single pixels is learned."""


class Pixels(Backbone):
    """No network at all: the features are the normalized pixels in both views."""

    in_pixels = True

    def __init__(self, n_bands: int, tile_size: int) -> None:
        """Take any number of bands; the side of a tile must be a multiple of the autoencoder's reduction."""
        super().__init__()
        if tile_size % REDUCTION:
            raise ConfigError("tiles.size", f"conv_ae needs a multiple of {REDUCTION}", f"use {-(-tile_size // REDUCTION) * REDUCTION}")
        self.tile_size = tile_size
        self.n_features = (N_VIEWS * n_bands, tile_size, tile_size)

    def features(self, patches: Tensor, valid: Tensor, places: Sequence[Places]) -> Tensor:
        """Both views of the tiles, pixels that are not valid filled with the mean around them, (n, 2 * band, size, size)."""
        size, shown = self.tile_size, two_views(patches, valid, self.tile_size)
        return torch.stack([shown[b, :, t : t + size, c : c + size] for b, windows in enumerate(places) for t, c in windows])

    def autoencoder(self, settings: Embed) -> ConvAutoencoder:
        """A convolutional autoencoder of the pixels: plain, denoising or variational.

        Raises:
            ConfigError: heads of this kind take features, not pixels.
        """
        head, kind, shape = settings.head, kind_of(settings), (self.n_features[0] // N_VIEWS, self.tile_size, settings.dim)
        match kind:
            case "autoencoder" | "denoising":
                return ConvAutoencoder(*shape, noise=head.noise if kind == "denoising" else 0.0)
            case "variational":
                return ConvVariational(*shape, beta=head.beta)
        raise ConfigError("embed.head.kind", f"conv_ae has no {kind} head", "use autoencoder, denoising or variational")


class ConvAutoencoder(Autoencoder):
    """Strided convolutions to a d-dimensional bottleneck and back (Masci et al. 2011, doi:10.1007/978-3-642-21735-7_7).

    With noise it is trained to take noise away (Vincent et al. 2008, doi:10.1145/1390156.1390294). Detectors see the texture
    of what it could not reconstruct, and so does the map of pixel errors.
    """

    code_parts = 1
    """Numbers that the encoder gives for each dimension."""

    center: Tensor
    spread: Tensor
    pixel_mean: Tensor
    pixel_whiten: Tensor

    def __init__(self, n_bands: int, tile_size: int, dim: int, *, noise: float = 0.0) -> None:
        """Draw the weights from torch's global generator; `noise` is the standard deviation of what training adds to its input."""
        super().__init__()
        self.n_bands, self.noise = n_bands, noise
        widths, side = (N_VIEWS * n_bands, *CHANNELS), tile_size // REDUCTION
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for thin, wide in pairwise(widths):
            down += [nn.Conv2d(thin, wide, 4, stride=2, padding=1, padding_mode="reflect"), nn.BatchNorm2d(wide), nn.GELU()]
            up = [nn.ConvTranspose2d(wide, thin, 4, stride=2, padding=1), nn.BatchNorm2d(thin), nn.GELU(), *up]
        flat = CHANNELS[-1] * side * side
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, self.code_parts * dim))
        self.decoder = nn.Sequential(nn.Linear(dim, flat), nn.Unflatten(1, (CHANNELS[-1], side, side)), nn.GELU(), *up[:-2])
        probe = torch.zeros(1, widths[0], tile_size, tile_size)
        n_columns, n_pixel = tile_columns(probe, n_bands).shape[1], pixel_columns(probe, n_bands).shape[1]
        self.register_buffer("center", torch.zeros(n_columns))
        self.register_buffer("spread", torch.ones(n_columns))
        self.register_buffer("pixel_mean", torch.zeros(n_pixel))
        self.register_buffer("pixel_whiten", torch.eye(n_pixel))

    def prepare(self, features: Tensor) -> None:
        """Nothing: pixels are normalized already."""

    def settle(self, features: Tensor) -> None:
        """Learn what texture the residuals of the training tiles usually have."""
        columns = torch.cat([tile_columns(self._residual(part), self.n_bands) for part in torch.split(features, SAMPLE_TILES)])
        self.center.copy_(columns.median(dim=0).values)
        mad = (columns - self.center).abs().median(dim=0).values
        self.spread.copy_(torch.maximum(1.4826 * mad, 0.2 * columns.std(dim=0, correction=0)).clamp_min(1e-4))
        some = features[:: max(1, len(features) // SAMPLE_TILES)]
        texture = pixel_columns(self._residual(some), self.n_bands)[:, :, ::8, ::8].transpose(0, 1).flatten(1).T  # (pixel, column)
        self.pixel_mean.copy_(texture.mean(dim=0))
        values, vectors = torch.linalg.eigh(torch.cov(texture.T).double())
        self.pixel_whiten.copy_(vectors / (values.clamp_min(0) + SHRINKAGE * values.mean() + 1e-6).sqrt())

    def rows(self, features: Tensor) -> Tensor:
        """Texture of the residuals in robust standard deviations, (n, columns)."""
        columns = tile_columns(self._residual(features), self.n_bands)
        return CLIP * torch.tanh((columns - self.center) / self.spread / CLIP)

    def encode(self, features: Tensor) -> Tensor:
        """(n, 2 * band, row, col) to (n, d)."""
        return self._code(_shown(features))

    def losses(self, features: Tensor) -> Tensor:
        """Mean squared error of the clean pixels, (n,); in training the input is turned, mirrored and made noisy."""
        clean = _turned(_shown(features)) if self.training else _shown(features)
        noisy = clean + self.noise * torch.randn_like(clean) if self.training and self.noise else clean
        losses: Tensor = (self.decoder(self.encoder(noisy)) - clean).square().mean(dim=(1, 2, 3))
        return losses

    def errors(self, features: Tensor, valid: Tensor) -> Errors:
        """Mean squared error of the plain bands per tile; per pixel, how unusual the texture of the residual is around it."""
        residual = self._residual(features)
        squared = residual[:, : self.n_bands].square().mean(dim=1) * valid
        tile = squared.sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp_min(1)
        texture = pixel_columns(residual, self.n_bands).permute(0, 2, 3, 1)  # (n, row, col, column)
        pixel = ((texture - self.pixel_mean) @ self.pixel_whiten).square().mean(dim=-1)
        return Errors(tile=tile, pixel=pixel)

    def _code(self, shown: Tensor) -> Tensor:
        """What the decoder reconstructs from, (n, d)."""
        code: Tensor = self.encoder(shown)
        return code

    def _residual(self, features: Tensor) -> Tensor:
        """Input less reconstruction, in units of the normalized range."""
        shown = _shown(features)
        residual: Tensor = (shown - self.decoder(self._code(shown))) / GAIN
        return residual


class ConvVariational(ConvAutoencoder):
    """The same as a variational autoencoder; see `geoanom.embed.variational`. The embedding is the mean code."""

    code_parts = 2

    def __init__(self, n_bands: int, tile_size: int, dim: int, *, beta: float = 1.0) -> None:
        """Draw the weights from torch's global generator; `beta` weighs the divergence from the standard normal."""
        super().__init__(n_bands, tile_size, dim)
        self.beta = beta

    def losses(self, features: Tensor) -> Tensor:
        """The negative evidence bound of the pixels, (n,); in training the input is turned and mirrored, and codes are drawn."""
        shown = _turned(_shown(features)) if self.training else _shown(features)
        mean, log_variance = split_code(self.encoder(shown))
        code = drawn_code(mean, log_variance) if self.training else mean
        error = (self.decoder(code) - shown).square().mean(dim=(1, 2, 3))
        return bound(error, mean, log_variance, beta=self.beta, n_values=shown[0].numel())

    def _code(self, shown: Tensor) -> Tensor:
        return split_code(self.encoder(shown))[0]


def build(settings: Embed, n_bands: int, tile_size: int) -> Pixels:  # noqa: ARG001 - every builder takes the settings
    """Build the backbone for a number of bands and a side of tiles."""
    return Pixels(n_bands, tile_size)


def _shown(features: Tensor) -> Tensor:
    return (features.float() - 0.5) * GAIN


def _turned(tiles: Tensor) -> Tensor:
    """All tiles of a batch turned by the same random quarter turns, and mirrored or not."""
    quarters, mirror = (int(torch.randint(n, (1,))) for n in (4, 2))
    turned = tiles.rot90(quarters, dims=(2, 3))
    return turned.flip(3) if mirror else turned
