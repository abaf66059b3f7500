"""The fully connected autoencoder of a backbone's features."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from geoanom.embed.backbones import Autoencoder, Errors

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        """Standardize by the median and half the width of the middle 68 %."""
        quantiles = torch.tensor([0.16, 0.5, 0.84], dtype=features.dtype, device=features.device)
        low, middle, high = torch.quantile(features, quantiles, dim=0)
        spread = (high - low) / 2
        floor = 1e-5 * middle.abs().clamp_min(1.0)
        self.center.copy_(middle)
        self.spread.copy_(torch.where(spread > floor, spread, torch.maximum(features.std(dim=0, correction=0), floor)))

    def encode(self, features: Tensor) -> Tensor:
        """(n, F) to (n, d)."""
        embedding: Tensor = self.encoder(self._standard(features))
        return embedding

    def losses(self, features: Tensor) -> Tensor:
        """Mean squared error of the standardized features, (n,)."""
        standard = self._standard(features)
        return (self.decoder(self.encoder(standard)) - standard).square().mean(dim=1)

    def errors(self, features: Tensor, valid: Tensor) -> Errors:  # noqa: ARG002 - the features left out what is not valid
        """Root mean squared error per tile; features have no pixels."""
        return Errors(tile=self.losses(features).sqrt(), pixel=None)

    def _standard(self, features: Tensor) -> Tensor:
        return CLIP * torch.tanh((features - self.center) / self.spread / CLIP)


def _dense(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers with GELU between them."""
    layers: list[nn.Module] = []
    for wide_in, wide_out in pairwise(widths):
        layers += [nn.Linear(wide_in, wide_out), nn.GELU()]
    return nn.Sequential(*layers[:-1])
