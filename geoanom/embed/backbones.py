"""What a backbone is, and how one is found by name.

A backbone turns normalized tiles into features and brings the autoencoder that fits those features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from geoanom.registry import BACKBONES, unknown

if TYPE_CHECKING:
    from geoanom.config import Embed


@dataclass(frozen=True)
class Errors:
    """How badly tiles were reconstructed."""

    tile: Tensor
    """(n,) one number per tile."""
    pixel: Tensor | None
    """(n, row, col); None where features, not pixels, are reconstructed."""


class Autoencoder(nn.Module, ABC):
    """Squeezes features through an embedding and back."""

    @abstractmethod
    def prepare(self, features: Tensor) -> None:
        """Learn what must be known before training, such as the features' scale, from (n, ...) features."""

    @abstractmethod
    def encode(self, features: Tensor) -> Tensor:
        """Features (n, ...) to embeddings (n, d)."""

    @abstractmethod
    def losses(self, features: Tensor) -> Tensor:
        """Training loss of each tile, (n,)."""

    @abstractmethod
    def errors(self, features: Tensor, valid: Tensor) -> Errors:
        """Reconstruction errors; pixels that are not valid (n, row, col) do not count."""


class Backbone(nn.Module, ABC):
    """Frozen features of normalized tiles."""

    n_features: tuple[int, ...]
    """Shape of one tile's features."""

    @abstractmethod
    def features(self, tiles: Tensor, valid: Tensor) -> Tensor:
        """Features of tiles.

        Args:
            tiles: (n, band, row, col), normalized to about 0..1.
            valid: (n, row, col), True = usable.

        Returns:
            (n, *n_features).
        """

    @abstractmethod
    def autoencoder(self, settings: Embed) -> Autoencoder:
        """A new autoencoder for these features; it draws its weights from torch's global generator."""


def build_backbone(settings: Embed, n_bands: int, tile_size: int) -> Backbone:
    """Build a backbone by name: one of the table, or any torchvision classification model.

    Raises:
        ConfigError: the name is unknown, or its weights cannot be had.
    """
    from geoanom.embed.vision import build as build_vision
    from geoanom.embed.vision import model_names

    if settings.backbone in BACKBONES.names():
        built: Backbone = BACKBONES.load(settings.backbone)(settings, n_bands, tile_size)
    elif settings.backbone in model_names():
        built = build_vision(settings, n_bands, tile_size)
    else:
        raise unknown("backbone", settings.backbone, [*BACKBONES.names(), *model_names()])
    return built.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def pooled(maps: Tensor, valid: Tensor) -> Tensor:
    """Mean and standard deviation of feature maps over the valid part of each tile.

    Args:
        maps: (n, channel, row, col) of one stage.
        valid: (n, row, col) at the tile's own resolution.

    Returns:
        (n, 2 * channel).
    """
    share = nn.functional.adaptive_avg_pool2d(valid[:, None].to(maps.dtype), maps.shape[-2:])  # (n, 1, row, col)
    weight = share / share.sum(dim=(2, 3), keepdim=True).clamp_min(1e-6)
    mean = (maps * weight).sum(dim=(2, 3))  # (n, channel)
    variance = ((maps - mean[:, :, None, None]).square() * weight).sum(dim=(2, 3))
    return torch.cat([mean, variance.clamp_min(0).sqrt()], dim=1)
