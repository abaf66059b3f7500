"""The fully connected autoencoder of a backbone's features."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from geoanom.embed.backbones import Autoencoder, Errors

if TYPE_CHECKING:
    from collections.abc import Sequence

FLAT = 1e-4
"""A feature that varies by less than this share of its size varies by rounding."""
CLIP = 8.0
"""Features further than this many spreads away are held there, so that no tile outweighs all others in training."""


class DenseAutoencoder(Autoencoder):
    """F - hidden - d - hidden - F with the features standardized by their median and spread."""

    center: Tensor
    spread: Tensor

    def __init__(self, n_features: int, hidden: Sequence[int], dim: int) -> None:
        """Draw the weights from torch's global generator."""
        super().__init__()
        self.register_buffer("center", torch.zeros(n_features))
        self.register_buffer("spread", torch.ones(n_features))
        self.encoder = _dense([n_features, *hidden, dim])
        self.decoder = _dense([dim, *reversed(hidden), n_features])

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

    def encode(self, features: Tensor) -> Tensor:
        """(n, F) to (n, d)."""
        embedding: Tensor = self.encoder(self.rows(features))
        return embedding

    def losses(self, features: Tensor) -> Tensor:
        """Mean squared error of the standardized features, (n,)."""
        standard = self.rows(features)
        losses: Tensor = (self.decoder(self.encoder(standard)) - standard).square().mean(dim=1)
        return losses

    def errors(self, features: Tensor, valid: Tensor) -> Errors:  # noqa: ARG002 - the features left out what is not valid
        """Mean squared error per tile; features have no pixels."""
        return Errors(tile=self.losses(features), pixel=None)


def _dense(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers with GELU between them."""
    layers: list[nn.Module] = []
    for wide_in, wide_out in pairwise(widths):
        layers += [nn.Linear(wide_in, wide_out), nn.GELU()]
    return nn.Sequential(*layers[:-1])
