"""One map of change out of several: each measure smoothed at several scales, told in decades, and added up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from geoanom.change.decades import Rarity, fit_rarity
from geoanom.change.members import MEMBERS, fit_measures
from geoanom.errors import ConfigError, SceneError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from geoanom.change.blocks import PairBlock
    from geoanom.change.members import Measures
    from geoanom.change.pair import Pair
    from geoanom.change.spectral import Light
    from geoanom.config import Config

DIRECTION_PX = 2.0
"""Width of the Gaussian with which each date is looked at by itself."""
TRUNCATED = 4.0
"""Gaussians end at so many widths."""


@dataclass(frozen=True, kw_only=True)
class ChangeMaps:
    """What a block shows in its middle."""

    combined: NDArray[np.float64]
    """(row, col) weighted mean of the members' decades; NaN where not valid."""
    members: Mapping[str, NDArray[np.float64]]
    """Name to (row, col) decades, the mean over the scales."""
    odd: tuple[NDArray[np.float64], NDArray[np.float64]]
    """(row, col) how much each date by itself stands out, in decades: the earlier and the later one."""
    difference: NDArray[np.float64]
    """(band, row, col) later minus earlier in standard deviations of the band."""
    valid: NDArray[np.bool_]
    """(row, col)."""


@dataclass(frozen=True, kw_only=True)
class ChangeStatistic:
    """Everything learned of a pair."""

    measures: Measures
    scales_px: tuple[float, ...]
    weights: Mapping[str, float]
    rarity: Mapping[tuple[str, float], Rarity]
    """Of each measure at each scale."""
    oddness: tuple[Rarity, Rarity]
    """Of each date by itself."""

    def maps(self, block: PairBlock) -> ChangeMaps:
        """The maps of a block's middle."""
        lengths, smooth = self.measures.lengths(block), Smoother(block.valid)
        members = {name: self._decades(name, lengths[name], block, smooth) for name in MEMBERS}
        total = sum(self.weights.values())
        combined = sum(self.weights[name] * members[name] for name in MEMBERS) / total
        valid = block.valid[block.middle]
        first, second = (rarity(part) for rarity, part in zip(self.oddness, standing_out(block, smooth, self.measures.light), strict=True))
        return ChangeMaps(
            combined=np.where(valid, combined, np.nan),
            members=members,
            odd=(first, second),
            difference=self.measures.differences(block)[(slice(None), *block.middle)],
            valid=valid,
        )

    def _decades(self, name: str, length: NDArray[np.float64], block: PairBlock, smooth: Smoother) -> NDArray[np.float64]:
        found = [self.rarity[name, scale](smooth(length, scale)[block.middle]) for scale in self.scales_px]
        return np.asarray(np.mean(found, axis=0))


class Smoother:
    """Averages maps (row, col) by Gaussians over what is valid."""

    def __init__(self, valid: NDArray[np.bool_]) -> None:
        """Take what is valid (row, col)."""
        self._valid = valid
        self._weights: dict[float, NDArray[np.float64]] = {}

    def __call__(self, values: NDArray[np.float64], scale_px: float) -> NDArray[np.float64]:
        """Means (row, col) by a Gaussian of a width."""
        total = gaussian_filter(np.where(self._valid, values, 0.0), scale_px, truncate=TRUNCATED)
        return np.asarray(total / self._weight(scale_px))

    def _weight(self, scale_px: float) -> NDArray[np.float64]:
        if scale_px not in self._weights:
            weight = gaussian_filter(self._valid.astype(np.float64), scale_px, truncate=TRUNCATED)
            self._weights[scale_px] = np.maximum(weight, 1e-12)
        return self._weights[scale_px]


def standing_out(block: PairBlock, smooth: Smoother, light: Light) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much the places (row, col) of a block's middle differ from their surroundings on each date, in the bands' own deviations."""
    found = []
    for values, scale in ((block.before, light.scale), (block.after, light.scale * light.gain)):
        contrast = np.zeros(block.valid.shape)
        for band in values.astype(np.float64) / scale[:, None, None]:
            mean = smooth(band, 4 * DIRECTION_PX)
            contrast += (band - mean) ** 2
        found.append(np.sqrt(smooth(contrast, DIRECTION_PX))[block.middle])
    return found[0], found[1]


def fit_statistic(pair: Pair, blocks: Sequence[PairBlock], bands: tuple[int, ...], config: Config) -> ChangeStatistic:
    """Learn what is usual from blocks of the pair itself.

    Raises:
        SceneError: no pixel is usable on both dates.
        ConfigError: all weights are 0.
    """
    if not blocks:
        raise SceneError(pair.after.uri, "has no usable pixel in common with the earlier scene", "check their footprints and masks")
    settings = config.change
    weights = {name: float(getattr(settings, name)) for name in MEMBERS}
    if sum(weights.values()) == 0:
        raise ConfigError("change", "gives no measure any weight", f"raise one of {', '.join(f'change.{name}' for name in MEMBERS)}")
    measures = fit_measures(blocks, bands)
    found: dict[tuple[str, float], list[NDArray[np.float64]]] = {}
    odd: tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]] = ([], [])
    for block in blocks:
        usable, smooth = block.valid[block.middle], Smoother(block.valid)
        for name, length in measures.lengths(block).items():
            for scale in settings.scales_px:
                found.setdefault((name, scale), []).append(smooth(length, scale)[block.middle][usable])
        for kept, part in zip(odd, standing_out(block, smooth, measures.light), strict=True):
            kept.append(part[usable])
    return ChangeStatistic(
        measures=measures,
        scales_px=settings.scales_px,
        weights=weights,
        rarity={key: fit_rarity(np.concatenate(parts), config.calibrate) for key, parts in found.items()},
        oddness=(fit_rarity(np.concatenate(odd[0]), config.calibrate), fit_rarity(np.concatenate(odd[1]), config.calibrate)),
    )
