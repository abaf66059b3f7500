"""Random squares of imagery, each seen twice in other bands, light and direction: what a head for all archives is learned on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from geoanom.embed.lite0 import LAST_STAGE, STAGES
from geoanom.embed.statistics import N_STATISTICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoanom.config.pretraining import BandMix, Jitter, Pretraining
    from geoanom.embed.backbones import Backbone

N_COLOURS = 3
PLAIN_COLUMNS = N_STATISTICS + sum(STAGES.values()) + sum(LAST_STAGE.values())
"""Statistics and features of the plain view; the features of the evened view follow them."""
TRIES_PER_SQUARE = 200


@dataclass(frozen=True, kw_only=True)
class Square:
    """A part of a scene, with room for views of it to be shifted."""

    top: int
    left: int
    side_px: int
    slack_px: int
    """How far down and to the right a view may be shifted."""


def largest_side_px(shape: tuple[int, int], settings: Pretraining) -> int:
    """Side of the largest square that, with its slack, fits into a scene (row, col); 0 where not even the smallest does."""
    least, most = settings.crop_px
    room = min(shape)
    return next((side for side in range(min(most, room), least - 1, -1) if side + slack_px(side, settings.jitter) <= room), 0)


def slack_px(side: int, jitter: Jitter) -> int:
    """How far views of a square of this side are shifted at most."""
    return int(jitter.shift * side)


def draw_squares(valid: NDArray[np.bool_], n: int, settings: Pretraining, rng: np.random.Generator) -> list[Square]:
    """Squares of random size and place in which, slack included, every pixel is valid.

    Args:
        valid: (row, col), True = usable.
        n: how many.
        settings: sides and shifts.
        rng: of sizes and places.

    Returns:
        n squares; fewer where the valid area has too little room for them.
    """
    largest = largest_side_px((valid.shape[0], valid.shape[1]), settings)
    found: list[Square] = []
    for _ in range(TRIES_PER_SQUARE * n if largest else 0):
        if len(found) == n:
            break
        square = _any_square(valid.shape, largest, settings, rng)
        reach = square.side_px + square.slack_px
        if valid[square.top : square.top + reach, square.left : square.left + reach].all():
            found.append(square)
    return found


def _any_square(shape: tuple[int, ...], largest: int, settings: Pretraining, rng: np.random.Generator) -> Square:
    least = settings.crop_px[0]
    side = min(largest, max(least, int(math.exp(rng.uniform(math.log(least), math.log(largest + 1))))))
    slack = slack_px(side, settings.jitter)
    top, left = (int(rng.integers(length - side - slack + 1)) for length in shape)
    return Square(top=top, left=left, side_px=side, slack_px=slack)


def two_views_of(
    pixels: NDArray[np.float32], square: Square, rgb: tuple[int, int, int], settings: Pretraining, rng: np.random.Generator
) -> Tensor:
    """A square seen twice.

    Args:
        pixels: (band, row, col) of the scene, normalized to about 0..1.
        square: a part of it.
        rgb: 1-based bands that look natural.
        settings: how the views differ, and their side.
        rng: of everything random in them.

    Returns:
        (2, 3, side_px, side_px).
    """
    return torch.stack([_view(pixels, square, rgb, settings, rng) for _ in range(2)])


def _view(
    pixels: NDArray[np.float32], square: Square, rgb: tuple[int, int, int], settings: Pretraining, rng: np.random.Generator
) -> Tensor:
    top, left = np.array([square.top, square.left]) + rng.integers(square.slack_px + 1, size=2)
    bands = _three_bands(len(pixels), rgb, settings.mix, rng)
    shown = pixels[bands, top : top + square.side_px, left : left + square.side_px]
    return _relit(_resized(_turned(shown, rng), settings.side_px), settings.jitter, rng)


def _three_bands(n_bands: int, rgb: tuple[int, int, int], mix: BandMix, rng: np.random.Generator) -> list[int]:
    """Positions of the bands that are shown as red, green and blue."""
    chance = rng.random()
    if chance < mix.natural:
        return [band - 1 for band in rgb]
    if chance < mix.natural + mix.permuted:
        return [int(band) for band in rng.choice(n_bands, N_COLOURS, replace=n_bands < N_COLOURS)]
    return [int(rng.integers(n_bands))] * N_COLOURS


def _turned(shown: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    turned = np.rot90(shown, int(rng.integers(4)), (1, 2))
    return np.flip(turned, 2) if rng.random() < 0.5 else turned


def _resized(shown: NDArray[np.float32], side_px: int) -> Tensor:
    image = torch.from_numpy(shown.copy())[None]
    return interpolate(image, size=(side_px, side_px), mode="bilinear", align_corners=False, antialias=True)[0]


def _relit(image: Tensor, jitter: Jitter, rng: np.random.Generator) -> Tensor:
    """Another gamma, gain and offset, or none; gamma leaves 0 and 1 in place and keeps the order beyond."""
    if rng.random() >= jitter.light:
        return image
    gamma, gain = math.exp(rng.normal(0.0, jitter.gamma)), math.exp(rng.normal(0.0, jitter.gain))
    return gain * image.sign() * image.abs() ** gamma + rng.normal(0.0, jitter.offset)


def plain_features(backbone: Backbone, views: Tensor) -> Tensor:
    """The backbone's features of whole views (n, 3, row, col) without those of the evened view, (n, PLAIN_COLUMNS)."""
    valid = torch.ones(len(views), *views.shape[2:], dtype=torch.bool)
    with torch.inference_mode():
        return backbone.features(views, valid, [[(0, 0)]] * len(views))[:, :PLAIN_COLUMNS]
