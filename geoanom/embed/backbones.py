"""What a backbone is, and how one is found by name.

A backbone turns patches of normalized pixels into features of the tiles in them, and brings the autoencoder that fits
those features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from geoanom.embed.statistics import statistic_maps, statistics_of
from geoanom.embed.views import N_VIEWS, mirrored, two_views
from geoanom.registry import BACKBONES, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geoanom.config import Embed

MULTIPLE_PX = 64
"""Patches are padded to a multiple of the coarsest stride, also where they are shrunk to half their size."""

ZOOMS = ((96, 2.0), (256, 1.0), (100_000, 0.5))
"""Largest side of a tile and the scaling of its pixels, so that a tile spans 128 to 256 pixels of the network's input."""

Places = list[tuple[int, int]]
"""First row and column of each tile's window in a patch."""


@dataclass(frozen=True)
class Errors:
    """How badly tiles were reconstructed."""

    tile: Tensor
    """(n,) one number per tile."""
    pixel: Tensor | None
    """(n, row, col); None where features, not pixels, are reconstructed."""


class Autoencoder(nn.Module, ABC):
    """Squeezes features through an embedding and back."""

    needs_views: bool = False
    """True where training needs every tile's features under another augmentation besides."""
    needs_labels: bool = False
    """True where training needs the labels of some tiles besides."""
    least_distance: float = 0.0
    """Distances between embeddings up to about this one are nothing, where their scale does not depend on the archive."""

    @abstractmethod
    def prepare(self, features: Tensor) -> None:
        """Learn what must be known before training, such as the features' scale, from (n, ...) features."""

    def settle(self, features: Tensor) -> None:
        """Learn what must be known after training, such as what residuals are usual, from the training tiles (n, ...)."""

    @abstractmethod
    def rows(self, features: Tensor) -> Tensor:
        """Features (n, ...) as standardized rows (n, F) that a detector can take."""

    @abstractmethod
    def encode(self, features: Tensor) -> Tensor:
        """Features (n, ...) to embeddings (n, d)."""

    @abstractmethod
    def losses(self, features: Tensor) -> Tensor:
        """Training loss of each tile, (n,)."""

    def losses_with(self, features: Tensor, beside: Tensor) -> Tensor:  # noqa: ARG002 - most kinds need nothing else
        """Training loss of each tile (n,), given its features in another view, or its label, besides."""
        return self.losses(features)

    @abstractmethod
    def errors(self, features: Tensor, valid: Tensor) -> Errors:
        """Reconstruction errors; pixels that are not valid (n, row, col) do not count."""


class Backbone(nn.Module, ABC):
    """Frozen features of the tiles in patches of pixels."""

    n_features: tuple[int, ...]
    """Shape of one tile's features."""
    in_pixels: bool = False
    """True where pixels are reconstructed, so that there is an error for every pixel."""

    @abstractmethod
    def features(self, patches: Tensor, valid: Tensor, places: Sequence[Places]) -> Tensor:
        """Features of tiles.

        Args:
            patches: (b, band, side, side), normalized to about 0..1.
            valid: (b, side, side), True = usable.
            places: for each patch, its tiles' windows.

        Returns:
            (n, *n_features) for the n tiles of all patches, in their order.
        """

    @abstractmethod
    def autoencoder(self, settings: Embed) -> Autoencoder:
        """A new autoencoder for these features; it draws its weights from torch's global generator."""


class PooledBackbone(Backbone):
    """Features that are means of a network's maps over each tile's window, for both views of the pixels.

    The network runs once over a whole patch: neighbouring tiles share its work, and no tile sees an artificial edge.
    """

    mean: float
    """Mean of the network's input, on the scale where pixels are 0..1."""
    std: float
    """Standard deviation of the network's input, on the same scale."""

    def __init__(self, tile_size: int, zoom: float | None) -> None:
        """Remember the side of a tile in pixels and the scaling before the network; None chooses it by the side."""
        super().__init__()
        self.tile_size = tile_size
        self.zoom = next(z for most_px, z in ZOOMS if tile_size <= most_px) if zoom is None else zoom

    @abstractmethod
    def maps(self, images: Tensor, view: int) -> list[Tensor]:
        """Feature maps (n, channel, row, col) of the stages that are used of a view."""

    def features(self, patches: Tensor, valid: Tensor, places: Sequence[Places]) -> Tensor:
        """Contrast, roughness, and the means of every channel of both views over each tile, (n, F)."""
        pad = (0, -patches.shape[-1] % MULTIPLE_PX) * 2
        mask = nn.functional.pad(valid[:, None].to(patches.dtype), pad)
        columns: list[Tensor] = []
        views = two_views(*mirrored(patches, valid), self.tile_size).chunk(N_VIEWS, dim=1)
        for number, view in enumerate(views):  # one at a time, to halve the peak of memory
            image = nn.functional.pad(view, pad, mode="replicate")
            if number == 0:
                columns.append(statistics_of(self._window_means(statistic_maps(image, self.tile_size), mask, places)))
            if self.zoom != 1:
                image = interpolate(image, scale_factor=self.zoom, mode="bilinear", align_corners=False, antialias=self.zoom < 1)
            image = ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
            columns += [self._window_means(maps, mask, places) for maps in self.maps(image, number)]
        return torch.cat(columns, dim=1)

    def _window_means(self, maps: Tensor, mask: Tensor, places: Sequence[Places]) -> Tensor:
        """Means of one stage's maps over the valid part of each window, (n, channel).

        Sums over windows are differences of running sums, so that windows that overlap, however densely, share the work.
        """
        step = mask.shape[-1] / maps.shape[-1]  # pixels of the scene in one cell of the map
        weight = adaptive_avg_pool2d(mask, (maps.shape[-2], maps.shape[-1])) + 1e-6
        weighted = torch.cat([maps * weight, weight], dim=1).double()
        sums = nn.functional.pad(weighted, (1, 0, 1, 0)).cumsum(dim=2).cumsum(dim=3)  # (b, channel + 1, row + 1, col + 1)
        cells = max(1, round(self.tile_size / step))
        rows = []
        for total, windows in zip(sums, places, strict=False):  # a batch that is not full has no windows in its last patches
            first = torch.tensor(windows, device=maps.device).div(step).round().long()  # (n, 2)
            (top, left), (bottom, right) = first.T, (first + cells).clamp_max(maps.shape[-1]).T
            rows.append((total[:, bottom, right] - total[:, top, right] - total[:, bottom, left] + total[:, top, left]).T)
        inside = torch.cat(rows)
        return (inside[:, :-1] / inside[:, -1:]).to(maps.dtype)


def build_backbone(settings: Embed, n_bands: int, tile_size: int) -> Backbone:
    """Build a backbone by name: one of the table, or any torchvision classification model.

    Raises:
        ConfigError: the name is unknown, or its weights cannot be had.
    """
    if settings.backbone in BACKBONES.names():
        built: Backbone = BACKBONES.load(settings.backbone)(settings, n_bands, tile_size)
    else:
        from geoanom.embed import vision

        if settings.backbone not in vision.model_names():
            raise unknown("backbone", settings.backbone, [*BACKBONES.names(), *vision.model_names()])
        built = vision.build(settings, n_bands, tile_size)
    return built.eval().requires_grad_(False).to(memory_format=torch.channels_last)
