"""Texture of reconstruction residuals: derivative energies and how the bands' gradients go together.

Foreign texture seldom raises the size of a residual, but it changes its structure.
"""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

SCALES = (1, 2, 4)
LEAST_ENERGY = 0.01
"""Derivatives below this, as a share of the normalized range, are noise."""
LEAST_PRODUCT = 1e-4
LARGEST_CORRELATION = 0.999
ALL_PAIRS_UP_TO = 6
"""With more bands only neighbouring bands are compared."""
SIGMA_PX = 4.0
"""Reach of the texture around one pixel."""


def tile_columns(residual: Tensor, n_bands: int) -> Tensor:
    """Texture of whole tiles.

    Args:
        residual: (n, view * n_bands, row, col), in units of the normalized range.
        n_bands: bands of one view.

    Returns:
        (n, columns).
    """
    columns = []
    for scale in SCALES:
        coarse = avg_pool2d(residual, scale)
        columns += [torch.log(d.abs().mean(dim=(2, 3)) + LEAST_ENERGY) for d in _derivatives(coarse)]
        dx, dy = _gradient(coarse)
        columns += [_correlations((dx[:, a] * dx[:, b] + dy[:, a] * dy[:, b]).mean(dim=(2, 3)), n) for a, b, n in _products(dx, n_bands)]
    return torch.cat(columns, dim=1)


def pixel_columns(residual: Tensor, n_bands: int) -> Tensor:
    """Texture around each pixel, (n, columns, row, col), of residuals like those of `tile_columns`."""
    dx, dy = _gradient(pad(residual, (0, 1, 0, 1), mode="replicate"))
    energy = _blur(dx.square() + dy.square())
    columns = [torch.log(energy.clamp_min(0.0) + LEAST_ENERGY**2) / 2]
    columns += [_correlations(_blur(dx[:, a] * dx[:, b] + dy[:, a] * dy[:, b]), n) for a, b, n in _products(dx, n_bands)]
    return torch.cat(columns, dim=1)


def _gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    """Forward differences along columns and rows, both one pixel smaller than x."""
    return x[..., :-1, 1:] - x[..., :-1, :-1], x[..., 1:, :-1] - x[..., :-1, :-1]


def _derivatives(x: Tensor) -> list[Tensor]:
    """Along columns, rows and both diagonals, and the Laplacian."""
    dx, dy = _gradient(x)
    laplacian = 4 * x[..., 1:-1, 1:-1] - x[..., :-2, 1:-1] - x[..., 2:, 1:-1] - x[..., 1:-1, :-2] - x[..., 1:-1, 2:]
    return [dx, dy, x[..., 1:, 1:] - x[..., :-1, :-1], x[..., 1:, :-1] - x[..., :-1, 1:], laplacian]


def _products(dx: Tensor, n_bands: int) -> list[tuple[list[int], list[int], int]]:
    """For each view the pairs of bands to multiply, each band with itself last, and the number of bands."""
    views = range(0, dx.shape[1], n_bands)
    pairs = list(combinations(range(n_bands), 2) if n_bands <= ALL_PAIRS_UP_TO else pairwise(range(n_bands)))
    itself = [(i, i) for i in range(n_bands)]
    return [([v + a for a, _ in pairs + itself], [v + b for _, b in pairs + itself], n_bands) for v in views] if pairs else []


def _correlations(products: Tensor, n_bands: int) -> Tensor:
    """Fisher's z of the gradients' correlations, from products whose last `n_bands` are the bands with themselves."""
    pairs = combinations(range(n_bands), 2) if n_bands <= ALL_PAIRS_UP_TO else pairwise(range(n_bands))
    first, second = zip(*pairs, strict=True)
    cross, own = products[:, :-n_bands], products[:, -n_bands:] + LEAST_PRODUCT
    r = cross / torch.sqrt(own[:, list(first)] * own[:, list(second)])
    return torch.atanh(r.clamp(-LARGEST_CORRELATION, LARGEST_CORRELATION))


def _blur(x: Tensor) -> Tensor:
    """Gaussian of SIGMA_PX, edges replicated."""
    radius = min(math.ceil(3 * SIGMA_PX), min(x.shape[-2:]) - 1)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype) / SIGMA_PX).square())
    taps = taps / taps.sum()
    flat = x.reshape(-1, 1, *x.shape[-2:])
    across = conv2d(pad(flat, (radius, radius, 0, 0), mode="replicate"), taps.view(1, 1, 1, -1))
    both = conv2d(pad(across, (0, 0, radius, radius), mode="replicate"), taps.view(1, 1, -1, 1))
    return both.reshape(x.shape)
