"""Principal components of a backbone's features."""

from __future__ import annotations

import torch
from torch import Tensor

from geoanom.embed.autoencoder import FeatureHead
from geoanom.embed.backbones import Errors
from geoanom.errors import ConfigError

RANK_TOLERANCE = 1e-10
"""Axes with less than this share of the first one's variance hold rounding."""


class PrincipalComponents(FeatureHead):
    """The linear autoencoder that loses least (Hotelling 1933, doi:10.1037/h0071325): nothing to train, the errors are the residuals."""

    mean: Tensor
    axes: Tensor
    scale: Tensor

    def __init__(self, n_features: int, dim: int, *, whiten: bool = False) -> None:
        """Stand ready for `settle`.

        Raises:
            ConfigError: there are fewer features than dimensions.
        """
        super().__init__(n_features)
        if dim > n_features:
            raise ConfigError("embed.dim", f"{n_features} features have no {dim} principal components", f"use at most {n_features}")
        self.whiten = whiten
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("axes", torch.zeros(n_features, dim))
        self.register_buffer("scale", torch.ones(dim))

    def settle(self, features: Tensor) -> None:
        """Find the axes of the training tiles; each points where its largest weight is positive, so that they are unique."""
        rows = self.rows(features).double()
        values, vectors = torch.linalg.eigh(torch.cov(rows.T, correction=min(1, len(rows) - 1)))
        dim = self.axes.shape[1]
        values, vectors = values.flip(0)[:dim].clamp_min(0), vectors.flip(1)[:, :dim]
        largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
        self.mean.copy_(rows.mean(dim=0))
        self.axes.copy_(vectors * torch.where(largest < 0, -1.0, 1.0))
        if self.whiten:
            self.scale.copy_(torch.where(values > RANK_TOLERANCE * values[0], values.sqrt(), torch.inf))

    def encode(self, features: Tensor) -> Tensor:
        """(n, F) to (n, d); an axis without variance is silent where axes are whitened."""
        return self._code(self.rows(features)) / self.scale

    def losses(self, features: Tensor) -> Tensor:
        """Mean squared residual of the standardized features, (n,)."""
        rows = self.rows(features)
        return (rows - self.mean - self._code(rows) @ self.axes.T).square().mean(dim=1)

    def errors(self, features: Tensor, valid: Tensor) -> Errors:  # noqa: ARG002 - the features left out what is not valid
        """Mean squared residual per tile; features have no pixels."""
        return Errors(tile=self.losses(features), pixel=None)

    def _code(self, rows: Tensor) -> Tensor:
        return (rows - self.mean) @ self.axes
