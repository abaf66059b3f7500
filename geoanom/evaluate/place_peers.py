"""Other methods that call places in a scene: tiles by features and a detector, and pixels by RX, joined to regions.

Each takes a scene's values (band, row, col) and validity (row, col) and gives outlines with scores, the most anomalous first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import find_objects, gaussian_filter, label, maximum
from shapely import box, unary_union

from geoanom.config import Member
from geoanom.detect.ensemble import make_detector
from geoanom.evaluate.peers import INNER_PX, OUTER_PX, global_rx, local_rx, principal

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

Places = list[tuple["BaseGeometry", float]]
Peer = Callable[["NDArray[np.float32]", "NDArray[np.bool_]"], Places]
Describe = Callable[["NDArray[np.float64]"], "NDArray[np.float64]"]

HIGH_PERCENTILE = 99.5
"""Pixels scored above it make the regions of the RX family."""
SMOOTH_PX = 2.0
MAX_COMPONENTS = 4
"""Local covariances of more bands would cost much memory; local RX sees so many principal components."""
STRETCH = (2.0, 98.0)
"""Percentiles of a band that are mapped to 0 and 255."""
EIGHT = np.ones((3, 3), int)


def colours(tiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean, deviation and outer deciles of each band of tiles (n, band, row, col), as (n, 4 * band)."""
    low, high = np.percentile(tiles, [10, 90], axis=(2, 3))
    return np.concatenate([tiles.mean(axis=(2, 3)), tiles.std(axis=(2, 3)), low, high], axis=1)


def colours_and_edges(tiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean, deviation and mean steps along rows and columns of each band of tiles (n, band, row, col), as (n, 4 * band)."""
    down, right = (np.abs(np.diff(tiles, axis=axis)).mean(axis=(2, 3)) for axis in (2, 3))
    return np.concatenate([tiles.mean(axis=(2, 3)), tiles.std(axis=(2, 3)), down, right], axis=1)


def lite0(tiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pooled features (n, 1280) of the first three bands of tiles (n, band, row, col) on a scale of 0..255."""
    from geoanom.embed.plain import pooled_lite0

    first = np.arange(3) % tiles.shape[1]
    return pooled_lite0(tiles[:, first].astype(np.float32)).astype(np.float64)


def tile_places(values: NDArray[np.float32], valid: NDArray[np.bool_], *, size: int, describe: Describe, detector: Member) -> Places:
    """The tiles of a grid without overlap, as squares ranked by a detector fitted on all of them; those not wholly valid are left out."""
    corners = [
        (row, col)
        for row in range(0, valid.shape[0] - size + 1, size)
        for col in range(0, valid.shape[1] - size + 1, size)
        if valid[row : row + size, col : col + size].all()
    ]
    if not corners:
        return []
    image = stretched(values, valid)
    rows = describe(np.stack([image[:, row : row + size, col : col + size] for row, col in corners]))
    judge = make_detector(detector)
    judge.fit(rows, 0)
    squares = [box(col, row, col + size, row + size) for row, col in corners]
    return _ranked(squares, judge.score(rows))


def global_rx_places(values: NDArray[np.float32], valid: NDArray[np.bool_], *, smooth: bool) -> Places:
    """Regions of high global RX."""
    scores = np.zeros(valid.shape)
    scores[valid] = global_rx(values[:, valid].T.astype(np.float64))
    return _regions(scores, valid, smooth=smooth)


def local_rx_places(values: NDArray[np.float32], valid: NDArray[np.bool_], *, smooth: bool) -> Places:
    """Regions of high dual-window RX."""
    rows = np.zeros((valid.size, min(MAX_COMPONENTS, len(values))))  # invalid pixels are as the mean
    rows[valid.ravel()] = principal(values[:, valid].T.astype(np.float64), rows.shape[1])
    scores = local_rx(rows.T.reshape(-1, *valid.shape), INNER_PX, OUTER_PX)
    return _regions(scores, valid, smooth=smooth)


def stretched(values: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Bands stretched to 0..255 between percentiles."""
    low, high = np.percentile(values[:, valid], STRETCH, axis=1).astype(np.float64)[:, :, None, None]
    scaled: NDArray[np.float64] = np.clip((values - low) / np.maximum(high - low, 1e-12), 0, 1) * 255
    return scaled


def _regions(scores: NDArray[np.float64], valid: NDArray[np.bool_], *, smooth: bool) -> Places:
    """Connected pixels above the high percentile, ranked by their largest score."""
    field = gaussian_filter(scores, SMOOTH_PX) if smooth else scores
    least, usual = np.percentile(field[valid], [HIGH_PERCENTILE, 50])
    labels, n_regions = label((field >= least) & (field > usual) & valid, EIGHT)  # many equal scores stay together
    frames = find_objects(labels)
    outlines = [_outline(labels[frame] == i, frame) for i, frame in enumerate(frames, 1)]
    return _ranked(outlines, np.atleast_1d(maximum(field, labels, np.arange(1, n_regions + 1))))


def _outline(mask: NDArray[np.bool_], frame: tuple[slice, ...]) -> BaseGeometry:
    """Outline of a mask in a frame, in the scene's pixel corners (col, row)."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (rows, starts), (_, stops) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    top, left = frame[0].start, frame[1].start
    return unary_union(box(left + starts, top + rows, left + stops, top + rows + 1))


def _ranked(outlines: Sequence[BaseGeometry], scores: NDArray[np.float64]) -> Places:
    order = np.argsort(-scores, kind="stable")
    return [(outlines[i], float(scores[i])) for i in order]


_KNN = Member(name="knn", params={"k": 6})  # one more than five, because a tile finds itself
PLACE_PEERS: Mapping[str, Peer] = {
    "Lite0 features, KNN(5)": partial(tile_places, size=64, describe=lite0, detector=_KNN),
    "colour and edges, KNN(5)": partial(tile_places, size=32, describe=colours_and_edges, detector=_KNN),
    "colour, PyOD IForest": partial(tile_places, size=32, describe=colours, detector=Member(name="iforest")),
    "colour, ECOD": partial(tile_places, size=32, describe=colours, detector=Member(name="ecod")),
    "global RX": partial(global_rx_places, smooth=False),
    "global RX, smoothed": partial(global_rx_places, smooth=True),
    "local RX": partial(local_rx_places, smooth=False),
    "local RX, smoothed": partial(local_rx_places, smooth=True),
}
"""Peers by the name they have in tables."""
