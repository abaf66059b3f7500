"""Other views of the same tiles: what light, air, sensor and direction of flight change about them, and nothing else.

A whole patch is changed at once, so that its tiles stay where they are but for a turn of the patch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

if TYPE_CHECKING:
    from geoanom.embed.backbones import Places

GAIN, GAIN_PER_BAND, GAMMA = 0.2, 0.1, 0.2
"""Largest natural logarithms of the factors and exponents: light, haze and the bands' calibration."""
OFFSET, OFFSET_PER_BAND = 0.05, 0.02
"""Largest shifts, as shares of the normalized range."""
NOISE = 0.02
"""Largest standard deviation of the noise."""
BLUR_PX = 0.8
"""Largest standard deviation of the blur."""
BLUR_REACH = 2


def seed_of(*parts: int) -> int:
    """One seed from several numbers, such as a run's seed, a scene's digest and a block's place."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def augmented(patches: Tensor, valid: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Patches in other light, sharpness and direction; every patch in its own light, all in the same direction.

    Args:
        patches: (n, band, side, side), normalized to about 0..1.
        valid: (n, side, side), True = usable; the rest takes no part.
        seed: the same seed gives the same augmentation; `turned_places` says where it puts the tiles.

    Returns:
        Patches and valid as they came, but changed and turned.
    """
    draw = torch.Generator().manual_seed(seed)
    quarters, mirrored = _turn(seed)
    seen = _noisy(_blurred(_relit(patches, draw), valid, draw), draw)
    return _turned(seen, quarters, mirrored=mirrored), _turned(valid, quarters, mirrored=mirrored)


def turned_places(places: Places, side: int, size: int, seed: int) -> Places:
    """Where the windows of tiles lie in a patch that was `augmented` with the same seed.

    Args:
        places: first row and column of each window.
        side: of the patch, in pixels.
        size: of a tile, in pixels.
        seed: that of `augmented`.
    """
    quarters, mirrored = _turn(seed)
    far = side - size
    for _ in range(quarters):
        places = [(far - left, top) for top, left in places]
    return [(top, far - left) for top, left in places] if mirrored else list(places)


def _turn(seed: int) -> tuple[int, bool]:
    """Quarter turns, and whether the patch is mirrored after them."""
    quarters, mirrored = np.random.default_rng(seed).integers((4, 2)).tolist()
    return int(quarters), bool(mirrored)


def _turned(x: Tensor, quarters: int, *, mirrored: bool) -> Tensor:
    turned = x.rot90(quarters, dims=(-2, -1))
    return turned.flip(-1) if mirrored else turned


def _relit(patches: Tensor, draw: torch.Generator) -> Tensor:
    """Another gain, gamma and offset, in part common to the bands; gamma leaves 0 and 1 in place and keeps the order beyond."""
    n, bands = patches.shape[:2]

    def jitter(most: float, width: int) -> Tensor:
        return (most * (2 * torch.rand(n, width, 1, 1, generator=draw) - 1)).to(patches)

    gain = (jitter(GAIN, 1) + jitter(GAIN_PER_BAND, bands)).exp()
    curved = patches.sign() * patches.abs() ** jitter(GAMMA, 1).exp()
    return gain * curved + jitter(OFFSET, 1) + jitter(OFFSET_PER_BAND, bands)


def _blurred(patches: Tensor, valid: Tensor, draw: torch.Generator) -> Tensor:
    """A small Gaussian blur among valid pixels."""
    sigma = BLUR_PX * float(torch.rand(1, generator=draw))
    kernel = torch.tensor([math.exp(-0.5 * (x / max(sigma, 1e-3)) ** 2) for x in range(-BLUR_REACH, BLUR_REACH + 1)]).to(patches)
    weight = valid[:, None].to(patches.dtype)
    total = _smoothed(torch.where(valid[:, None], patches, 0.0), kernel)
    return torch.where(valid[:, None], total / _smoothed(weight, kernel).clamp_min(1e-6), patches)


def _smoothed(x: Tensor, kernel: Tensor) -> Tensor:
    """Rows and columns of (n, band, row, col) weighted by a kernel; nothing lies beyond the edges."""
    flat = pad(x, (BLUR_REACH,) * 4).flatten(0, 1)[:, None]
    smooth = conv2d(conv2d(flat, kernel[None, None, :, None]), kernel[None, None, None, :])
    return smooth.reshape(x.shape)


def _noisy(patches: Tensor, draw: torch.Generator) -> Tensor:
    strength = NOISE * torch.rand(len(patches), 1, 1, 1, generator=draw)
    return patches + (strength * torch.randn(patches.shape, generator=draw)).to(patches)
