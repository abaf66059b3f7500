"""Other methods on the same chips or pixels: simple statistics, pretrained features and the classical RX family.

Detectors of the table are asked for one neighbour more than the name says, because a row finds itself among the rows it is
compared with; the order of the scores is then that of leaving the row out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter
from skimage.filters import sobel
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from geoanom.config import Member
from geoanom.detect.ensemble import make_detector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from pydantic import JsonValue

    from geoanom.evaluate.results import Progress

    Floats = NDArray[np.float64]
    Judge = Callable[[Floats, int], Floats]
    """Takes rows (n, d) and a seed, and scores each row (n,) among the others."""

TOP_SHARE = 0.01
"""Share of a chip's pixels, the highest scored, whose mean is the chip's score."""
RX_SIDE_PX = 100
THUMB_PX = 16
INNER_PX, OUTER_PX = 5, 15
"""Sides of the guard and of the background window of local RX."""
CRD_INNER_PX, CRD_OUTER_PX = 5, 9
CRD_PENALTY = 1e-3
"""Of 1e-6 (the paper's), 1e-3 and 0.1 the best on the benchmark's own scenes: chosen in the peer's favour."""
RIDGE = 1e-4
"""Share of an image's variance that is added to local covariances, which may be singular."""
BATCH = 32


def by_detector(name: str, **params: JsonValue) -> Judge:
    """Scores by a detector of geoanom's table, which standardizes its columns first."""

    def judge(rows: Floats, seed: int) -> Floats:
        detector = make_detector(Member(name=name, params=params))
        detector.fit(rows, seed)
        return detector.score(rows)

    return judge


def by_raw_neighbours(k: int) -> Judge:
    """Mean distance to the k nearest other rows, with the columns as they are."""

    def judge(rows: Floats, seed: int) -> Floats:  # noqa: ARG001 - nothing here is random
        nearest = NearestNeighbors(n_neighbors=min(k, len(rows) - 1)).fit(rows)
        return np.asarray(nearest.kneighbors()[0].mean(axis=1), np.float64)

    return judge


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A way to judge one kind of row."""

    method: str
    rows: str
    """Name of the table of rows."""
    judge: Judge
    n_components: int | None = None
    """Principal components, fitted on the scored rows themselves, that are judged; all columns when None."""

    def scores(self, tables: dict[str, Floats], picked: NDArray[np.int64] | slice, seed: int) -> Floats:
        """Scores (n,) of the picked rows, fitted on these rows."""
        rows = tables[self.rows][picked]
        return self.judge(rows if self.n_components is None else principal(rows, self.n_components), seed)


CHIP_PEERS = (
    Peer(method="Lite0 features, KNN(5)", rows="lite0", judge=by_raw_neighbours(5)),
    Peer(method="Lite0 features standardized, KNN(5)", rows="lite0", judge=by_detector("knn", k=6)),
    Peer(method="Lite0 features, PCA(16) standardized, KNN(5)", rows="lite0", judge=by_detector("knn", k=6), n_components=16),
    Peer(method="colour, KNN(5)", rows="colour", judge=by_detector("knn", k=6)),
    Peer(method="colour and edges, KNN(50)", rows="edges", judge=by_detector("knn", k=51)),
    Peer(method="colour, PyOD IForest", rows="colour", judge=by_detector("iforest")),
    Peer(method="colour, ECOD", rows="colour", judge=by_detector("ecod")),
    Peer(method="colour, PyOD LOF", rows="colour", judge=by_detector("lof")),
    Peer(method="pixels, PyOD KNN", rows="pixels", judge=by_detector("knn_tree", n_neighbors=11)),
    Peer(method="pixels, PyOD IForest", rows="pixels", judge=by_detector("iforest")),
)
PIXEL_PEERS = (
    Peer(method="PCA(10), KNN(20)", rows="pca", judge=by_raw_neighbours(20)),
    Peer(method="PCA(10) standardized, KNN(20)", rows="pca", judge=by_detector("knn_tree", n_neighbors=21)),
    Peer(method="spectra, PyOD IForest", rows="spectra", judge=by_detector("iforest")),
    Peer(method="PCA(10), ECOD", rows="pca", judge=by_detector("ecod")),
)


@dataclass(frozen=True, kw_only=True)
class ChipPeers:
    """What the peers need to know of chips, computed once, because chips come back from draw to draw."""

    chips: Sequence[NDArray[np.uint8]]
    """Each (band, row, col)."""
    tables: dict[str, Floats]
    """Rows (chip, column) by name."""
    moments: tuple[Floats, Floats]
    """Mean (chip, band) and mean outer product (chip, band, band) of each chip's pixels."""
    local_rx: Floats
    """(chip,)."""

    def scores(self, picked: NDArray[np.int64], seed: int) -> dict[str, Floats]:
        """Scores (n,) of the picked chips by method, fitted on these chips."""
        found = {peer.method: peer.scores(self.tables, picked, seed) for peer in CHIP_PEERS}
        return {**found, "pixels, global RX": self._global_rx(picked), "pixels, local RX": self.local_rx[picked]}

    def _global_rx(self, picked: NDArray[np.int64]) -> Floats:
        mean = self.moments[0][picked].mean(axis=0)
        covariance = self.moments[1][picked].mean(axis=0) - np.outer(mean, mean)
        inverse = np.linalg.pinv(covariance)
        return np.array([mean_of_top(_mahalanobis(_pixel_rows(self.chips[i]) - mean, inverse)) for i in picked])


def study_chips(chips: Sequence[NDArray[np.uint8]], progress: Progress) -> ChipPeers:
    """Describe chips (band, row, col) of one size for all peers."""
    rows, local = [], []
    for chip in progress(chips, desc="describing chips"):
        rows.append((colour(chip), edges(chip), shrink(chip, THUMB_PX).reshape(-1) / 1.0))
        small = shrink(chip, min(RX_SIDE_PX, chip.shape[-1])).astype(np.float64)
        local.append(mean_of_top(local_rx(small, INNER_PX, OUTER_PX)))
    tables = {name: np.stack(column) for name, column in zip(("colour", "edges", "pixels"), zip(*rows, strict=True), strict=True)}
    pixels = (_pixel_rows(chip) for chip in chips)
    moments = [(p.mean(axis=0), p.T @ p / len(p)) for p in pixels]
    return ChipPeers(
        chips=chips,
        tables={**tables, "lite0": _lite0(chips)},
        moments=(np.stack([mean for mean, _ in moments]), np.stack([outer for _, outer in moments])),
        local_rx=np.array(local),
    )


def _lite0(chips: Sequence[NDArray[np.uint8]]) -> Floats:
    """Pooled features (chip, 1280) of the pretrained network."""
    from geoanom.embed.plain import pooled_lite0

    parts = [np.stack(chips[i : i + BATCH]).astype(np.float32) for i in range(0, len(chips), BATCH)]
    return np.concatenate([np.asarray(pooled_lite0(part), np.float64) for part in parts])


def colour(chip: NDArray[np.uint8]) -> Floats:
    """Mean and standard deviation of each band of a chip (band, row, col), as (2 * band,)."""
    return np.concatenate([chip.mean(axis=(1, 2)), chip.std(axis=(1, 2))])


def edges(chip: NDArray[np.uint8]) -> Floats:
    """The colour of a chip (band, row, col) and how strong its edges are: mean, deviation and upper percentiles of the gradient."""
    gradient = sobel(chip.mean(axis=0))
    return np.concatenate([colour(chip), [gradient.mean(), gradient.std()], np.percentile(gradient, [50, 75, 90, 99])])


def shrink(chip: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A chip (band, row, col) averaged down to (band, side, side)."""
    small = Image.fromarray(np.moveaxis(chip, 0, -1)).resize((side, side), Image.Resampling.BOX)
    return np.moveaxis(np.asarray(small), -1, 0)


def mean_of_top(scores: Floats) -> float:
    """Mean of the highest hundredth of the scores, at least of one."""
    flat = scores.ravel()
    n_top = max(1, round(TOP_SHARE * flat.size))
    return float(np.partition(flat, -n_top)[-n_top:].mean())


def principal(rows: Floats, n_components: int) -> Floats:
    """Coordinates (n, k) of rows (n, d) on their own first principal components."""
    components = PCA(min(n_components, *rows.shape), svd_solver="full")
    coordinates: Floats = components.fit_transform(rows)
    return coordinates


def global_rx(pixels: Floats) -> Floats:
    """Squared Mahalanobis distance (n,) of pixels (n, band) to all of them (Reed and Yu 1990, doi:10.1109/29.60107)."""
    centred = pixels - pixels.mean(axis=0)
    return _mahalanobis(centred, np.linalg.pinv(centred.T @ centred / max(1, len(pixels) - 1), hermitian=True))


def local_rx(image: Floats, inner: int, outer: int) -> Floats:
    """Dual-window RX: distance of each pixel to the ring between two windows around it (Kwon et al. 2003, doi:10.1117/1.1531633).

    Args:
        image: (band, row, col).
        inner: odd side, in pixels, of the guard window, which does not count.
        outer: odd side, in pixels, of the background window; the image is mirrored at its edges.

    Returns:
        (row, col) squared Mahalanobis distance.
    """
    n_bands = len(image)
    centred = image - image.mean(axis=(1, 2), keepdims=True)  # so that the covariances below do not cancel
    mean = _ring_mean(centred, inner, outer)
    products = np.stack([_ring_mean(centred[i] * centred[: i + 1], inner, outer)[j] for i in range(n_bands) for j in range(i + 1)])
    low = np.tril_indices(n_bands)
    covariance = np.empty((*image.shape[1:], n_bands, n_bands))
    covariance[..., low[0], low[1]] = covariance[..., low[1], low[0]] = np.moveaxis(products - mean[low[0]] * mean[low[1]], 0, -1)
    covariance += (RIDGE * image.var() + 1e-9) * np.eye(n_bands)
    away = np.moveaxis(centred - mean, 0, -1)[..., None]  # (row, col, band, 1)
    squared: Floats = (away * np.linalg.solve(covariance, away)).sum(axis=(2, 3))
    return squared


def _ring_mean(images: Floats, inner: int, outer: int) -> Floats:
    """Mean over the ring between two windows around each pixel of (n, row, col)."""
    large, small = (uniform_filter(images, (0, side, side), mode="mirror") * side**2 for side in (outer, inner))
    mean: Floats = (large - small) / (outer**2 - inner**2)
    return mean


def crd(image: Floats, inner: int, outer: int, penalty: float) -> Floats:
    """Collaborative representation: how badly its ring of neighbours explains a pixel (Li and Du 2015, doi:10.1109/TGRS.2014.2343955).

    Args:
        image: (band, row, col), on a scale of about 0..1.
        inner: odd side, in pixels, of the guard window.
        outer: odd side, in pixels, of the background window; the image is mirrored at its edges.
        penalty: weight of the distance-weighted size of the coefficients.

    Returns:
        (row, col) length of the residual.
    """
    reach, guard = outer // 2, inner // 2
    padded = np.pad(np.moveaxis(image, 0, -1), ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    steps = range(-reach, reach + 1)
    ring = [(r, c) for r in steps for c in steps if max(abs(r), abs(c)) > guard]
    n_rows, n_cols = image.shape[1:]
    lines = []
    for row in range(reach, reach + n_rows):
        around = np.stack([padded[row + r, reach + c : reach + c + n_cols] for r, c in ring], axis=1)  # (col, neighbour, band)
        lines.append(_residual(padded[row, reach : reach + n_cols], around, penalty))
    return np.stack(lines)


def _residual(pixels: Floats, around: Floats, penalty: float) -> Floats:
    """What neighbours (n, k, band) cannot explain of pixels (n, band), as lengths (n,)."""
    weight = np.square(around - pixels[:, None]).sum(axis=2)
    gram = around @ around.transpose(0, 2, 1)  # (n, k, k)
    gram[:, range(gram.shape[1]), range(gram.shape[1])] += penalty * weight + 1e-9
    share = np.linalg.solve(gram, around @ pixels[..., None])  # (n, k, 1)
    return np.asarray(np.linalg.norm(pixels - (share * around).sum(axis=1), axis=1), np.float64)


def pixel_scores(image: Floats, seed: int) -> dict[str, Floats]:
    """Scores (pixel,) of every pixel of a hyperspectral image (band, row, col) by method."""
    spectra = _pixel_rows(image)
    reduced = principal(spectra, 10)
    found = {"global RX": global_rx(spectra)}
    whitened = (reduced / np.maximum(reduced.std(axis=0), 1e-12)).T.reshape(-1, *image.shape[1:])
    found["PCA(10), local RX"] = local_rx(whitened, INNER_PX, OUTER_PX).ravel()
    scaled = (image - image.min()) / max(float(np.ptp(image)), 1e-12)
    found["CRD"] = crd(scaled, CRD_INNER_PX, CRD_OUTER_PX, CRD_PENALTY).ravel()
    tables = {"spectra": spectra, "pca": reduced}
    return {**found, **{peer.method: peer.scores(tables, slice(None), seed) for peer in PIXEL_PEERS}}


def _pixel_rows(image: NDArray[np.generic]) -> Floats:
    return image.reshape(len(image), -1).T.astype(np.float64)


def _mahalanobis(centred: Floats, inverse: Floats) -> Floats:
    squared: Floats = np.einsum("nb,nb->n", centred @ inverse, centred)
    return squared
