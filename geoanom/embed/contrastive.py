"""Heads that learn from two views of each tile: what stays the same in both is what the tile is."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from geoanom.embed.autoencoder import FeatureHead, dense
from geoanom.embed.backbones import Errors

if TYPE_CHECKING:
    from collections.abc import Sequence

SHRINKAGE = 0.05


class EmbeddingHead(FeatureHead):
    """F - hidden - d, with no way back.

    It reconstructs nothing. In place of an error stands how far a tile's embedding lies from the training tiles': the
    squared Mahalanobis distance per dimension (Mahalanobis 1936; as RX, Reed and Yu 1990, doi:10.1109/29.60107).
    """

    usual: Tensor
    whitening: Tensor

    def __init__(self, n_features: int, hidden: Sequence[int], dim: int, *, dropout: float = 0.0, batch_norm: bool = False) -> None:
        """Draw the weights from torch's global generator; the arguments are those of `DenseAutoencoder`."""
        super().__init__(n_features)
        self.encoder = dense([n_features, *hidden, dim], dropout, batch_norm=batch_norm)
        self.register_buffer("usual", torch.zeros(dim))
        self.register_buffer("whitening", torch.eye(dim))

    def settle(self, features: Tensor) -> None:
        """Learn where the training tiles' embeddings usually lie."""
        embedding = self.encode(features).double()
        values, vectors = torch.linalg.eigh(torch.cov(embedding.T, correction=0).reshape(2 * self.usual.shape))
        self.usual.copy_(embedding.mean(dim=0))
        self.whitening.copy_(vectors / (values.clamp_min(0) + SHRINKAGE * values.mean() + 1e-12).sqrt())

    def encode(self, features: Tensor) -> Tensor:
        """(n, F) to (n, d)."""
        embedding: Tensor = self.encoder(self.rows(features))
        return embedding

    def errors(self, features: Tensor, valid: Tensor) -> Errors:  # noqa: ARG002 - the features left out what is not valid
        """How unusual the embedding is per tile; features have no pixels."""
        distance = ((self.encode(features) - self.usual) @ self.whitening).square().mean(dim=1)
        return Errors(tile=distance, pixel=None)


class PairHead(EmbeddingHead):
    """An embedding learned from pairs of views."""

    needs_views = True

    @abstractmethod
    def losses_with(self, features: Tensor, beside: Tensor) -> Tensor:
        """Training loss of each tile (n,), given its features in another view, too."""

    def losses(self, features: Tensor) -> Tensor:
        """The loss where both views are alike: how easily each tile is taken for another one of the batch, (n,)."""
        return self.losses_with(features, features)


class Contrastive(PairHead):
    """SimCLR (Chen et al. 2020, arXiv:2002.05709) on features; as there, the loss sees a projection that is then dropped."""

    def __init__(
        self,
        n_features: int,
        hidden: Sequence[int],
        dim: int,
        *,
        dropout: float = 0.0,
        batch_norm: bool = False,
        temperature: float = 0.2,
    ) -> None:
        """Draw the weights from torch's global generator; the arguments are those of `DenseAutoencoder`."""
        super().__init__(n_features, hidden, dim, dropout=dropout, batch_norm=batch_norm)
        self.temperature = temperature
        self.projector = dense([dim, dim, dim])

    def losses_with(self, features: Tensor, beside: Tensor) -> Tensor:
        """NT-Xent of each tile's two views among all views of the batch, (n,)."""
        projected = self.projector(self.encode(torch.cat([features, beside])))  # together, so that a batch norm sees one batch
        one, other = projected.chunk(2)
        return nt_xent(one, other, self.temperature)


class Triplet(PairHead):
    """FaceNet's loss (Schroff et al. 2015, arXiv:1503.03832) with embeddings on the unit sphere.

    A tile's other view must be nearer than other tiles are, by a margin. All other tiles count alike: the hardest ones are
    often its neighbours, which overlap it and ought to be near.
    """

    def __init__(
        self,
        n_features: int,
        hidden: Sequence[int],
        dim: int,
        *,
        dropout: float = 0.0,
        batch_norm: bool = False,
        margin: float = 0.2,
    ) -> None:
        """Draw the weights from torch's global generator; the arguments are those of `DenseAutoencoder`."""
        super().__init__(n_features, hidden, dim, dropout=dropout, batch_norm=batch_norm)
        self.margin = margin

    def encode(self, features: Tensor) -> Tensor:
        """(n, F) to points (n, d) on the unit sphere."""
        return normalize(super().encode(features), dim=1)

    def losses_with(self, features: Tensor, beside: Tensor) -> Tensor:
        """Mean hinge of each tile over all other tiles of the batch, (n,)."""
        anchors, positives = self.encode(torch.cat([features, beside])).chunk(2)
        return triplet_losses(anchors, positives, self.margin)


def nt_xent(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Normalized temperature-scaled cross entropy, the mean of both views of each pair (Chen et al. 2020, equation 1).

    Args:
        one: (n, d), projections of one view.
        other: (n, d), the same tiles in the other view.
        temperature: divides the cosines.

    Returns:
        (n,).
    """
    n = len(one)
    points = normalize(torch.cat([one, other]), dim=1)
    itself = torch.eye(2 * n, dtype=torch.bool, device=points.device)
    cosines = (points @ points.T / temperature).masked_fill(itself, -torch.inf)
    partner = torch.arange(2 * n, device=points.device).roll(n)
    return cross_entropy(cosines, partner, reduction="none").reshape(2, n).mean(dim=0)


def triplet_losses(anchors: Tensor, positives: Tensor, margin: float) -> Tensor:
    """Mean over the other tiles of how much the positive is not nearer by the margin, in squared distances.

    Args:
        anchors: (n, d).
        positives: (n, d), the same tiles in another view; each is a negative to all other anchors.
        margin: in squared distance.

    Returns:
        (n,); 0 for a tile without others.
    """
    squared = (anchors[:, None] - positives[None]).square().sum(dim=2)  # (n, n)
    hinge = (squared.diagonal()[:, None] - squared + margin).clamp_min(0)
    return (hinge.sum(dim=1) - hinge.diagonal()) / max(1, len(anchors) - 1)
