"""Two plain statistics of tiles that a network trained on photographs does not tell: contrast and roughness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import avg_pool2d, pad

if TYPE_CHECKING:
    from torch import Tensor

N_STATISTICS = 2
SPAN_PX = 64
"""Larger tiles are reduced to about this side, so that roughness is that of things and not of the sensor's grain."""
MAX_BANDS = 12
"""More bands are averaged in groups of neighbours."""


def few_bands(images: Tensor) -> Tensor:
    """At most `MAX_BANDS` bands of images (n, band, row, col)."""
    if images.shape[1] <= MAX_BANDS:
        return images
    return torch.stack([group.mean(dim=1) for group in images.tensor_split(MAX_BANDS, dim=1)], dim=1)


def statistic_maps(images: Tensor, tile_size: int) -> Tensor:
    """Maps whose means over a tile give its statistics.

    Args:
        images: (n, band, row, col), without edges where pixels are not valid.
        tile_size: side of a tile in pixels.

    Returns:
        (n, 2 * band + 1, row, col): each band, its square, and the mean step to the next pixel, reduced for large tiles.
    """
    reduced = avg_pool2d(few_bands(images), max(1, tile_size // SPAN_PX), ceil_mode=True)
    wide = pad(reduced, (0, 1, 0, 1), mode="replicate")
    steps = (wide[..., :-1, 1:] - reduced).abs() + (wide[..., 1:, :-1] - reduced).abs()
    return torch.cat([reduced, reduced.square(), steps.mean(dim=1, keepdim=True)], dim=1)


def statistics_of(means: Tensor) -> Tensor:
    """Contrast (the bands' mean standard deviation) and roughness (n, 2) of tiles, from the means (n, 2 * band + 1) of their maps."""
    first, second = means[:, :-1].chunk(2, dim=1)
    contrast = (second - first.square()).clamp_min(0.0).sqrt().mean(dim=1)
    return torch.stack([contrast, means[:, -1]], dim=1)
