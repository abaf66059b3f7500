"""The measures of change, each a map of lengths: by spectra, by invariants, by structure, and by prediction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from geoanom.change.spectral import Alteration, Light, Predictor, fit_alteration, fit_light, fit_predictor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from geoanom.change.blocks import PairBlock
    from geoanom.embed.structure import StructureMaps

    Floats = NDArray[np.float64]
    Maps = Callable[[NDArray[np.float32]], NDArray[np.float32]]

FITTED_PIXELS = 400_000
STRETCH = (1.0, 99.0)
"""Percentiles that the network is shown as 0 and 1."""
MEMBERS = ("spectral", "irmad", "structure", "prediction")


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Brings the bands of one date to 0..1."""

    low: Floats
    """(shown band,)."""
    high: Floats
    """(shown band,)."""

    def __call__(self, values: NDArray[np.floating], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        """An image (band, row, col) without edges where it is not valid."""
        shown = (values - self.low[:, None, None]) / np.maximum(self.high - self.low, 1e-12)[:, None, None]
        usual = shown[:, valid].mean(axis=1) if valid.any() else np.zeros(len(shown))
        return np.where(valid, np.clip(shown, 0.0, 1.0), np.clip(usual, 0.0, 1.0)[:, None, None]).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Channels:
    """Mean and deviation of the network's channels on one date."""

    mean: Floats
    std: Floats

    def standard(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Maps (channel, row, col) with mean 0 and deviation 1."""
        return ((maps - self.mean[:, None, None]) / self.std[:, None, None]).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Everything learned of a pair that its measures of change need."""

    bands: tuple[int, ...]
    """Positions of the bands that the network is shown."""
    alteration: Alteration
    light: Light
    forward: Predictor
    backward: Predictor
    stretches: tuple[Stretch, Stretch]
    """Of the earlier and of the later date."""
    channels: tuple[Channels, Channels]
    """Of the earlier and of the later date."""
    network: StructureMaps = field(repr=False)

    def lengths(self, block: PairBlock) -> dict[str, NDArray[np.float64]]:
        """Name of each measure to its map (side, side) over a block and its surroundings."""
        before, after = _rows(block.before), _rows(block.after)
        difference = self.light.difference(before, after)
        flat = {
            "spectral": np.sqrt((difference**2).sum(axis=1)),
            "irmad": np.sqrt(self.alteration.squared(before, after)),
            "prediction": self.forward.error(before, after) + self.backward.error(after, before),
        }
        shaped = {name: values.reshape(block.valid.shape) for name, values in flat.items()}
        return {**shaped, "structure": self._structure(block)}

    def differences(self, block: PairBlock) -> NDArray[np.float64]:
        """(band, side, side) later minus earlier, in standard deviations of the band."""
        rows = self.light.difference(_rows(block.before), _rows(block.after))
        return rows.T.reshape(block.before.shape)

    def _structure(self, block: PairBlock) -> NDArray[np.float64]:
        maps = [
            channels.standard(self.network(stretch(values[list(self.bands)], block.valid)))
            for values, stretch, channels in zip((block.before, block.after), self.stretches, self.channels, strict=True)
        ]
        return np.asarray(np.sqrt(((maps[1] - maps[0]).astype(np.float64) ** 2).sum(axis=0)))


def fit_measures(blocks: Sequence[PairBlock], bands: tuple[int, ...]) -> Measures:
    """Learn from blocks of a pair.

    Args:
        blocks: at least one usable pixel among them.
        bands: positions of the bands that the network is shown, at most as many as it has filters.
    """
    from geoanom.embed.structure import StructureMaps  # torch is large

    before, after = _sampled(blocks)
    alteration = fit_alteration(before, after)
    shown = list(bands)
    stretches = _stretch(before[:, shown]), _stretch(after[:, shown])
    network = StructureMaps(len(bands))
    return Measures(
        bands=bands,
        alteration=alteration,
        light=fit_light(before, after, alteration.weight),
        forward=fit_predictor(before, after),
        backward=fit_predictor(after, before),
        stretches=stretches,
        channels=_channels(blocks, stretches, shown, network),
        network=network,
    )


def _channels(
    blocks: Sequence[PairBlock], stretches: tuple[Stretch, Stretch], shown: list[int], network: Maps
) -> tuple[Channels, Channels]:
    """Moments of the network's channels over the usable middles of all blocks, one block at a time."""
    found = []
    for date, stretch in enumerate(stretches):
        n, total, squares = 0, np.zeros(1), np.zeros(1)
        for block in blocks:
            values = (block.before, block.after)[date]
            usable = block.valid[block.middle]
            maps = network(stretch(values[shown], block.valid))[(slice(None), *block.middle)][:, usable].astype(np.float64)
            n, total, squares = n + maps.shape[1], total + maps.sum(axis=1), squares + (maps**2).sum(axis=1)
        mean = total / n
        found.append(Channels(mean=mean, std=np.sqrt(np.maximum(squares / n - mean**2, 1e-12))))
    return found[0], found[1]


def _stretch(pixels: Floats) -> Stretch:
    low, high = np.percentile(pixels, STRETCH, axis=0)
    return Stretch(low=low, high=high)


def _sampled(blocks: Sequence[PairBlock]) -> tuple[Floats, Floats]:
    """Usable pixels (n, band) of both dates, evenly thinned out to `FITTED_PIXELS`."""
    total = sum(int(block.valid[block.middle].sum()) for block in blocks)
    step = max(1, -(-total // FITTED_PIXELS))
    parts = []
    for block in blocks:
        usable = block.valid[block.middle]
        parts.append([values[(slice(None), *block.middle)][:, usable][:, ::step].T for values in (block.before, block.after)])
    before, after = (np.concatenate([part[date] for part in parts]).astype(np.float64) for date in (0, 1))
    return before, after


def _rows(values: NDArray[np.float32]) -> Floats:
    """(band, row, col) as pixels (n, band)."""
    return values.reshape(len(values), -1).T.astype(np.float64)
