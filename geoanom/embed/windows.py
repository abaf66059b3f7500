"""Contrast of small windows with their surroundings, in colour and texture.

A tile's embedding is a mean over the whole tile, in which a thing of a few pixels drowns, and networks trained on photographs
look away from noise, stripes and odd colours. Windows a third of a tile wide, compared with what lies around them, see both.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import avg_pool2d, pad

from geoanom.embed.statistics import MAX_BANDS, SPAN_PX, few_bands
from geoanom.embed.views import box_mean

if TYPE_CHECKING:
    from torch import Tensor

CELL_PX = 4
"""Side of the cells that statistics are taken in, at the scale where a tile spans at most two times `SPAN_PX`."""
CELLS_A_RADIUS_PX = 32
"""One cell of a window's radius for so many pixels of a tile."""
SURROUNDINGS = 5
"""Radius of the surroundings, in radii of the window."""
ALL_PAIRS_UP_TO = 6
"""With more bands only neighbouring bands are compared."""
FLAT = 0.01
"""Deviations and steps below this, as a share of the normalized range, are noise."""
LARGEST_CORRELATION = 0.999
LEAST_SHARE = 0.5
"""Windows with a smaller share of whole cells are left out, and coarse pixels with a smaller share of valid ones."""
LEAST_SPREAD = 0.1
"""Squared cells; surroundings of a single row or column have no slope across it."""
WHOLE = 0.999
"""Share of a cell's pixels that are valid, but for rounding; other cells lie on an edge and are left out."""


@dataclass(frozen=True, kw_only=True)
class WindowGeometry:
    """How windows lie in a tile."""

    size: int
    """Side of a tile in pixels."""
    step: int
    """Side of a tile's core in pixels, which its windows are centred in."""

    @property
    def pool(self) -> int:
        """Pixels that are averaged before anything else, so that large tiles are seen at a coarser scale."""
        return max(1, self.size // SPAN_PX)

    @property
    def cell_px(self) -> int:
        """Side of a cell in pixels of the scene."""
        return CELL_PX * self.pool

    @property
    def radius(self) -> int:
        """Cells on each side of a window's own."""
        return self.size // self.pool // CELLS_A_RADIUS_PX

    @property
    def side(self) -> int:
        """Windows along the side of a tile's core."""
        return max(1, self.step // self.cell_px)

    def centres(self, first: Tensor) -> Tensor:
        """Cells of the windows' centres along one axis, (n, side), from the first pixels (n,) of cores in a patch."""
        inner = (torch.arange(self.side, device=first.device) + 0.5) * self.step / self.side
        return ((first[:, None] + inner) / self.cell_px).long()


def n_columns(n_bands: int) -> int:
    """Number of a window's statistics."""
    used = min(n_bands, MAX_BANDS)
    return 3 * used + len(_pairs(used))


def contrasts(patches: Tensor, valid: Tensor, geometry: WindowGeometry) -> Tensor:
    """How the window around each cell differs from its surroundings.

    Args:
        patches: (n, band, row, col), normalized; what stands in pixels that are not valid does not matter.
        valid: (n, row, col), True = usable.
        geometry: of tiles and windows.

    Returns:
        (n, columns, cell row, cell col); NaN where too little is valid.
    """
    images, mask = _coarse(*_mended(few_bands(torch.where(valid[:, None], patches, 0.0)), valid), geometry.pool)
    columns, weight = _statistics(images, mask)
    near, share = _mean(columns, weight, geometry.radius)
    far = SURROUNDINGS * max(1, geometry.radius)
    around, _ = _mean(columns, weight, far)
    n_bands = images.shape[1]
    slopes = _slope_between(columns[:, :n_bands], weight, geometry.radius, far)
    contrast = torch.cat([near[:, :n_bands] - around[:, :n_bands] - slopes, near[:, n_bands:] - around[:, n_bands:]], dim=1)
    return torch.where((share >= LEAST_SHARE) & (weight > 0), contrast * share.sqrt(), torch.nan)  # means of few cells vary more


def _mended(images: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Single dead pixels take the mean of their neighbours, so that they do not silence the cells around them.

    What lies beyond the patch is no neighbour: a row along its edge whose only neighbours are on one side would break a slope.
    """
    mask = valid[:, None].to(images.dtype)
    share = avg_pool2d(mask, 3, stride=1, padding=1)
    around = avg_pool2d(images * mask, 3, stride=1, padding=1) / share.clamp_min(1e-6)
    return torch.where(valid[:, None], images, around), valid | (share[:, 0] >= LEAST_SHARE)


def _slope_between(means: Tensor, weight: Tensor, radius: int, far: int) -> Tensor:
    """What an even slope makes of the difference between a window's mean and that of its surroundings.

    It is nothing where both have the same centre; at the edges of a scene, where the surroundings lie to one side, a slope would
    stand out of every scene that gets brighter towards one of them.
    """
    slopes = torch.zeros_like(means)
    for dim in (2, 3):
        side = means.shape[dim]
        place = torch.arange(side, dtype=means.dtype, device=means.device).sub(side / 2)
        place = place.view(-1, 1) if dim == 2 else place
        centre_near, centre_far = (_mean(place.expand_as(weight), weight, reach)[0] for reach in (radius, far))
        spread = _mean(place.square().expand_as(weight), weight, far)[0] - centre_far.square()
        together = _mean(means * place, weight, far)[0] - _mean(means, weight, far)[0] * centre_far
        slopes += together / spread.clamp_min(LEAST_SPREAD) * (centre_near - centre_far)
    return slopes


def _coarse(images: Tensor, valid: Tensor, pool: int) -> tuple[Tensor, Tensor]:
    """Means of the valid pixels in squares, padded to whole cells, and (n, 1, row, col) where there are any."""
    mask = valid[:, None].to(images.dtype)
    images = images * mask
    if pool > 1:
        share = avg_pool2d(mask, pool, ceil_mode=True)
        images, mask = avg_pool2d(images, pool, ceil_mode=True) / share.clamp_min(1e-6), (share >= LEAST_SHARE).to(images.dtype)
    lower, right = (-side % CELL_PX for side in images.shape[-2:])
    return pad(images, (0, right, 0, lower)), pad(mask, (0, right, 0, lower))


def _statistics(images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, deviation, roughness and the correlations of the bands' gradients of each cell, and (n, 1, row, col) its weight."""
    share = avg_pool2d(mask, CELL_PX)
    mean = avg_pool2d(images * mask, CELL_PX) / share.clamp_min(1e-6)
    centred = images - mean.repeat_interleave(CELL_PX, 2).repeat_interleave(CELL_PX, 3)
    variance = avg_pool2d(centred.square() * mask, CELL_PX) / share.clamp_min(1e-6)
    energy, correlation = _gradients(images, mask)
    weight = (share >= WHOLE).to(images.dtype)
    return torch.cat([mean, torch.log(variance + FLAT**2) / 2, torch.log(energy + FLAT**2) / 2, correlation], dim=1), weight


def _gradients(images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared gradient of each band, and Fisher's z of the correlations of the bands' gradients, around each cell."""
    whole = pad(mask, (0, 1, 0, 1))
    inside = mask * whole[..., :-1, 1:] * whole[..., 1:, :-1]
    wide = pad(images, (0, 1, 0, 1))
    dx, dy = (wide[..., :-1, 1:] - images) * inside, (wide[..., 1:, :-1] - images) * inside
    share = box_mean(avg_pool2d(inside, CELL_PX), 3).clamp_min(1e-6)

    def around(products: Tensor) -> Tensor:
        return box_mean(avg_pool2d(products, CELL_PX), 3) / share

    energy = around(dx.square() + dy.square())
    pairs = _pairs(images.shape[1])
    if not pairs:
        return energy, energy[:, :0]
    a, b = (list(bands) for bands in zip(*pairs, strict=True))
    cross = around(dx[:, a] * dx[:, b] + dy[:, a] * dy[:, b])
    r = cross / torch.sqrt((energy[:, a] + FLAT**2) * (energy[:, b] + FLAT**2))
    return energy, torch.atanh(r.clamp(-LARGEST_CORRELATION, LARGEST_CORRELATION))


def _pairs(n_bands: int) -> list[tuple[int, int]]:
    return list(combinations(range(n_bands), 2) if n_bands <= ALL_PAIRS_UP_TO else pairwise(range(n_bands)))


def _mean(columns: Tensor, weight: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Weighted mean over a square of cells, and (n, 1, row, col) the share of it that counts."""
    share = box_mean(weight, 2 * radius + 1)
    return box_mean(columns * weight, 2 * radius + 1) / share.clamp_min(1e-6), share
