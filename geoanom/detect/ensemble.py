"""Few, different detectors joined on calibrated p-values, each tile judged by the half it does not belong to.

The tiles are split into two halves by a checkerboard of squares, a rule of their place alone. The detectors of one half
are fitted on the other, so a tile's score is held out from them whether it was a training tile or is a new one.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoanom.detect.calibrate import Calibrator, fit_calibrator
from geoanom.detect.peaks import as_rows, tile_scores, window_scores
from geoanom.errors import ConfigError
from geoanom.registry import DETECTORS, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from geoanom.config import Calibrate, Member
    from geoanom.detect.base import Detector

HALVES = 2
RECONSTRUCTION = "reconstruction"
WINDOWS = "windows"
CHUNK_ROWS = 4096


def half_of(rows: NDArray[np.int64], cols: NDArray[np.int64], fold_tiles: int) -> NDArray[np.int64]:
    """Which half, 0 or 1, the tiles at these grid places belong to."""
    return (rows // fold_tiles + cols // fold_tiles) % HALVES


@dataclass(frozen=True, kw_only=True)
class Jury:
    """The detectors, two of each: index 0 judges tiles of half 0 and was fitted on half 1."""

    members: tuple[Member, ...]
    detectors: tuple[tuple[Detector, Detector], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Titles of the members."""
        return tuple(member.title for member in self.members)

    def raw_scores(self, rows: Mapping[str, NDArray[np.floating]], halves: NDArray[np.int64]) -> NDArray[np.float64]:
        """Raw scores of every detector.

        Args:
            rows: tables by name: embedding and features (n, columns), windows (n, side, side, columns).
            halves: (n,) the half that each tile belongs to.

        Returns:
            (n, member), higher = more anomalous.
        """
        scores = np.empty((len(halves), len(self.members)))
        for half in range(HALVES):
            for places in _chunks(np.flatnonzero(halves == half)):
                for m, (member, pair) in enumerate(zip(self.members, self.detectors, strict=True)):
                    scores[places, m] = tile_scores(pair[half], rows[member.input][places])
        return scores

    def window_scores(self, rows: Mapping[str, NDArray[np.floating]], halves: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Scores (n, side, side) of the windows in tiles, by the first member that works on them; None where none does."""
        first = next((m for m, member in enumerate(self.members) if member.input == WINDOWS), None)
        if first is None:
            return None
        scores = np.empty(rows[WINDOWS].shape[:-1])
        for half, detector in enumerate(self.detectors[first]):
            scores[halves == half] = window_scores(detector, rows[WINDOWS][halves == half])
        return scores


def fit_jury(members: Sequence[Member], rows: Mapping[str, NDArray[np.floating]], halves: NDArray[np.int64], seed: int) -> Jury:
    """Fit every member on each half.

    Args:
        members: names, what they work on, and parameters.
        rows: reference tables by name: embedding and features (n, columns), windows (n, m, columns).
        halves: (n,) the half of each row; neither half may be empty.
        seed: for random detectors.

    Raises:
        ConfigError: an unknown detector or parameter.
    """
    pairs = []
    for member in members:
        pair: tuple[Detector, Detector] = (make_detector(member), make_detector(member))
        for half, detector in enumerate(pair):
            reference = as_rows(rows[member.input][halves != half])
            if len(reference) == 0:
                wrong = "no window of the training tiles has enough valid pixels around it"
                raise ConfigError(f"detect.members {member.title}", wrong, "leave this member out, or use scenes with fewer gaps")
            detector.fit(reference, seed)
        pairs.append(pair)
    return Jury(members=tuple(members), detectors=tuple(pairs))


def make_detector(member: Member) -> Detector:
    """An unfitted detector.

    Raises:
        ConfigError: an unknown detector or parameter.
    """
    build = DETECTORS.load(member.name)
    known = inspect.signature(build).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):  # else it checks them itself
        for param in member.params:
            if param not in known:
                raise unknown(f"parameter of {member.name}", param, known)
    try:
        detector: Detector = build(**member.params)
    except TypeError as error:
        raise ConfigError(f"detect.members {member.title}", str(error), "see its parameters in the documentation") from error
    return detector


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """Calibrated judgements of n tiles."""

    statistic: NDArray[np.float64]
    """(n,) what the members say together, higher = more anomalous; orders tiles with the same p-value."""
    p_value: NDArray[np.float64]
    """(n,)."""
    member_p: NDArray[np.float64]
    """(n, member)."""


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Joins members by the root mean square of their weighted -log10 p, and calibrates that again.

    What one member is sure of counts more than what all find a little unusual, and a heavier member counts where they differ.
    """

    members: tuple[Calibrator, ...]
    weights: NDArray[np.float64]
    """(member,)."""
    joint: Calibrator

    def judge(self, raw: NDArray[np.float64]) -> Verdicts:
        """Calibrate raw scores (n, member)."""
        member_p = np.stack([c.p_value(raw[:, m]) for m, c in enumerate(self.members)], axis=1)
        statistic = _join(member_p, self.weights)
        return Verdicts(statistic=statistic, p_value=self.joint.p_value(statistic), member_p=member_p)


def fit_ensemble(
    raw: NDArray[np.float64], weights: NDArray[np.float64], settings: Calibrate, least_scales: Sequence[float] | None = None
) -> Ensemble:
    """Calibrate the members and then their joint statistic on held-out raw scores.

    Args:
        raw: (n, member).
        weights: (member,).
        settings: how tails are measured.
        least_scales: for each member the differences between scores that are nothing unusual; none when None.
    """
    least = [0.0] * raw.shape[1] if least_scales is None else least_scales
    members = tuple(fit_calibrator(column, settings, scale) for column, scale in zip(raw.T, least, strict=True))
    member_p = np.stack([c.p_value(raw[:, m]) for m, c in enumerate(members)], axis=1)
    return Ensemble(members=members, weights=weights, joint=fit_calibrator(_join(member_p, weights), settings))


def _join(member_p: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    joined: NDArray[np.float64] = np.sqrt(np.square(weights * np.log10(member_p)).mean(axis=1))
    return joined


def _chunks(places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [places[i : i + CHUNK_ROWS] for i in range(0, len(places), CHUNK_ROWS)]
