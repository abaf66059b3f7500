"""Heads of a backbone's features, and the fully connected autoencoder among them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm as normalized

from geoanom.embed.backbones import Autoencoder, Errors

if TYPE_CHECKING:
    from collections.abc import Sequence

FLAT = 1e-4
"""A feature that varies by less than this share of its size varies by rounding."""
CLIP = 8.0
"""Features further than this many spreads away are held there, so that no tile outweighs all others in training."""


class FeatureHead(Autoencoder):
    """A head of features that are standardized by their median and spread; what it makes of them is a subclass's matter."""

    center: Tensor
    spread: Tensor

    def __init__(self, n_features: int) -> None:
        """Stand ready for `prepare`."""
        super().__init__()
        self.register_buffer("center", torch.zeros(n_features))
        self.register_buffer("spread", torch.ones(n_features))

    def prepare(self, features: Tensor) -> None:
        """Standardize by median and spread; a column that hardly varies carries nothing and is silenced."""
        middle = features.median(dim=0).values
        mad = (features - middle).abs().median(dim=0).values
        spread = torch.maximum(1.4826 * mad, 0.2 * features.std(dim=0, correction=0))
        silent = spread <= FLAT * (middle.abs() + 1e-2)
        self.center.copy_(middle)
        self.spread.copy_(torch.where(silent, torch.inf, spread))

    def rows(self, features: Tensor) -> Tensor:
        """(n, F) features in robust standard deviations, bent towards +-CLIP."""
        return CLIP * torch.tanh((features - self.center) / self.spread / CLIP)


class DenseAutoencoder(FeatureHead):
    """F - hidden - d - hidden - F; with noise, one that learns to take noise away (Vincent et al. 2008, doi:10.1145/1390156.1390294)."""

    def __init__(
        self, n_features: int, hidden: Sequence[int], dim: int, *, dropout: float = 0.0, batch_norm: bool = False, noise: float = 0.0
    ) -> None:
        """Draw the weights from torch's global generator.

        Args:
            n_features: F.
            hidden: widths of the encoder's hidden layers; the decoder has them in reverse.
            dim: d.
            dropout: share of the hidden units that each training step leaves out.
            batch_norm: normalize hidden units over each training batch.
            noise: standard deviation of what training adds to the standardized features.
        """
        super().__init__(n_features)
        self.noise = noise
        self.encoder = dense([n_features, *hidden, dim], dropout, batch_norm=batch_norm)
        self.decoder = dense([dim, *reversed(hidden), n_features], dropout, batch_norm=batch_norm)

    def encode(self, features: Tensor) -> Tensor:
        """(n, F) to (n, d)."""
        embedding: Tensor = self.encoder(self.rows(features))
        return embedding

    def losses(self, features: Tensor) -> Tensor:
        """Mean squared error of the clean standardized features, (n,); in training the input is made noisy."""
        standard = self.rows(features)
        noisy = standard + self.noise * torch.randn_like(standard) if self.training and self.noise else standard
        losses: Tensor = (self.decoder(self.encoder(noisy)) - standard).square().mean(dim=1)
        return losses

    def errors(self, features: Tensor, valid: Tensor) -> Errors:  # noqa: ARG002 - the features left out what is not valid
        """Mean squared error per tile; features have no pixels."""
        return Errors(tile=self.losses(features), pixel=None)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization (Ioffe and Szegedy 2015, arXiv:1502.03167) that lets a batch of one pass by the running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (n, width); one tile alone has no statistics."""
        if len(x) > 1 or not self.training:
            return super().forward(x)
        return normalized(x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps)


def dense(widths: Sequence[int], dropout: float = 0.0, *, batch_norm: bool = False) -> nn.Sequential:
    """Linear layers of these widths with GELU between them, and batch normalization and dropout where wanted."""
    layers: list[nn.Module] = []
    for wide_in, wide_out in pairwise(widths[:-1]):
        layers += [nn.Linear(wide_in, wide_out), *_after(wide_out, dropout, batch_norm=batch_norm)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def _after(width: int, dropout: float, *, batch_norm: bool) -> list[nn.Module]:
    norm = [BatchNorm(width)] if batch_norm else []
    return [*norm, nn.GELU(), *([nn.Dropout(dropout)] if dropout else [])]
