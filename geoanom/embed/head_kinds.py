"""Every kind of head of a backbone's features, built from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geoanom.embed.autoencoder import DenseAutoencoder
from geoanom.embed.base import Base
from geoanom.embed.contrastive import Contrastive, Triplet
from geoanom.embed.linear import PrincipalComponents
from geoanom.embed.supervised import Supervised
from geoanom.embed.variational import VariationalAutoencoder
from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from geoanom.config import Embed
    from geoanom.embed.autoencoder import FeatureHead


def kind_of(settings: Embed) -> str:
    """The kind of head; left open it is geoanom-base where that fits the backbone, unless a head is to be trained on a folder."""
    head = settings.head
    if head.kind != "auto":
        return head.kind
    return "base" if _suits_base(settings) and head.train_on == "scene" else "autoencoder"


def build_head(settings: Embed, n_features: int) -> FeatureHead:
    """A new head of the settings' kind; it draws its weights from torch's global generator.

    Raises:
        ConfigError: the kind does not go with the backbone or the dimension.
    """
    head, chosen = settings.head, kind_of(settings)
    if chosen == "base":
        return _base(settings, n_features)
    if chosen == "pca":
        return PrincipalComponents(n_features, settings.dim, whiten=head.whiten)
    kinds: dict[str, tuple[type[FeatureHead], dict[str, float]]] = {
        "autoencoder": (DenseAutoencoder, {}),
        "denoising": (DenseAutoencoder, {"noise": head.noise}),
        "variational": (VariationalAutoencoder, {"beta": head.beta}),
        "contrastive": (Contrastive, {"temperature": head.temperature}),
        "triplet": (Triplet, {"margin": head.margin}),
        "supervised": (Supervised, {"temperature": head.temperature}),
    }
    kind, own = kinds[chosen]
    build: Callable[..., FeatureHead] = kind
    return build(n_features, head.hidden, settings.dim, dropout=head.dropout, batch_norm=head.batch_norm, **own)


def _base(settings: Embed, n_features: int) -> Base:
    if settings.fine_tune.epochs:
        wrong = "base was learned on the features of the backbone as it comes, not of one that is fine-tuned"
        raise ConfigError("embed.head.kind", wrong, "set embed.head.kind to autoencoder, or embed.fine_tune.epochs to 0")
    if not _suits_base(settings):
        wrong = f"base is for efficientnet_lite0 with the weights of its package, not for {settings.backbone} with {settings.weights}"
        raise ConfigError("embed.head.kind", wrong, "set embed.head.kind to autoencoder")
    return Base(n_features, settings.dim)


def _suits_base(settings: Embed) -> bool:
    return settings.backbone == "efficientnet_lite0" and settings.weights == "package" and not settings.fine_tune.epochs
