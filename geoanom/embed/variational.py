"""The variational autoencoder of a backbone's features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from geoanom.embed.autoencoder import FeatureHead, dense
from geoanom.embed.backbones import Errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

MOST_LOG_VARIANCE = 10.0
"""Beyond this the exponential would end a training in its first steps."""


class VariationalAutoencoder(FeatureHead):
    """Codes are drawn from a normal distribution per tile (Kingma and Welling 2014, arXiv:1312.6114).

    `beta` weighs its divergence from the standard normal (Higgins et al. 2017). The embedding is the mean, so that nothing
    is drawn once the training is over.
    """

    def __init__(
        self, n_features: int, hidden: Sequence[int], dim: int, *, dropout: float = 0.0, batch_norm: bool = False, beta: float = 1.0
    ) -> None:
        """Draw the weights from torch's global generator; the arguments are those of `DenseAutoencoder`."""
        super().__init__(n_features)
        self.beta = beta
        self.encoder = dense([n_features, *hidden, 2 * dim], dropout, batch_norm=batch_norm)
        self.decoder = dense([dim, *reversed(hidden), n_features], dropout, batch_norm=batch_norm)

    def encode(self, features: Tensor) -> Tensor:
        """(n, F) to the means (n, d)."""
        return split_code(self.encoder(self.rows(features)))[0]

    def losses(self, features: Tensor) -> Tensor:
        """The bound of `bound` for each tile, (n,), with drawn codes in training and mean codes else."""
        standard = self.rows(features)
        mean, log_variance = split_code(self.encoder(standard))
        code = drawn_code(mean, log_variance) if self.training else mean
        error = (self.decoder(code) - standard).square().mean(dim=1)
        return bound(error, mean, log_variance, beta=self.beta, n_values=standard.shape[1])

    def errors(self, features: Tensor, valid: Tensor) -> Errors:  # noqa: ARG002 - the features left out what is not valid
        """Mean squared error per tile of the reconstruction from the mean code."""
        standard = self.rows(features)
        mean, _ = split_code(self.encoder(standard))
        return Errors(tile=(self.decoder(mean) - standard).square().mean(dim=1), pixel=None)


def split_code(code: Tensor) -> tuple[Tensor, Tensor]:
    """An encoder's output (n, 2 d) as means and logarithms of variances, (n, d) each."""
    mean, log_variance = code.chunk(2, dim=1)
    return mean, log_variance.clamp(-MOST_LOG_VARIANCE, MOST_LOG_VARIANCE)


def drawn_code(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Codes (n, d) drawn from torch's global generator such that gradients pass."""
    return mean + (0.5 * log_variance).exp() * torch.randn_like(mean)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence (n,) of normal distributions from the standard one, in nats (Kingma and Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=1)


def bound(error: Tensor, mean: Tensor, log_variance: Tensor, *, beta: float, n_values: int) -> Tensor:
    """Negative evidence bound of unit normal pixels or features, times 2 / n_values, so that it stands on the errors' scale.

    Args:
        error: (n,) mean squared error over a tile's values.
        mean: (n, d).
        log_variance: (n, d).
        beta: weight of the divergence.
        n_values: how many values a tile has.
    """
    return error + 2.0 * beta / n_values * divergence(mean, log_variance)
