"""The scored tiles of scenes as features: each tile's core with its scores."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from geoanom.layer.features import GROUP, Feature, significant
from geoanom.layer.geometry import all_to_rfc7946

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from geoanom.layer.scoremap import ScoreMap


def tiles_of(maps: Sequence[ScoreMap]) -> Callable[[], Iterator[Feature]]:
    """A stream of the scored tiles of scenes, in the order of the maps and their grids.

    Each geometry is the tile's core by the rules of anomalies (`to_rfc7946`); the cores of a scene share no point but on their edges.
    Properties: ``tile_id`` (as in the embeddings), ``scene``, ``row``, ``col``, ``score``, ``p_value``, ``q_value``,
    ``valid_fraction``, ``recon_error``, and ``score_<member>`` for every detector.
    """
    return partial(_stream, tuple(maps))


def tile_id(digest: str, row: int, col: int) -> str:
    """What a tile is called wherever tiles are listed: ``DIGEST/ROW/COL``, of the digest the first 12 letters."""
    return f"{digest[:12]}/{row}/{col}"


def _stream(maps: Sequence[ScoreMap]) -> Iterator[Feature]:
    for scores in maps:
        for start in range(0, len(scores), GROUP):
            yield from _group(scores, slice(start, start + GROUP))


def _group(scores: ScoreMap, part: slice) -> Iterator[Feature]:
    columns = _columns(scores, part)
    shapes = all_to_rfc7946(cores_of(scores, part), scores.scene.georef)
    for shape, values in zip(shapes, zip(*columns.values(), strict=True), strict=True):
        yield Feature(shape, dict(zip(columns, values, strict=True)))


def _columns(scores: ScoreMap, part: slice) -> dict[str, list[Any]]:
    rows, cols = scores.rows[part].tolist(), scores.cols[part].tolist()
    measured = {name: getattr(scores, name) for name in ("score", "p_value", "q_value", "valid_fraction", "recon_error")}
    measured |= {f"score_{name}": values for name, values in scores.member_score.items()}
    return {
        "tile_id": [tile_id(scores.scene.digest, row, col) for row, col in zip(rows, cols, strict=True)],
        "scene": [scores.scene.name] * len(rows),
        "row": rows,
        "col": cols,
        **{name: [significant(value) for value in values[part].tolist()] for name, values in measured.items()},
    }


def cores_of(scores: ScoreMap, part: slice) -> NDArray[np.object_]:
    """The cores (n,) of some tiles as boxes in pixel corners."""
    grid, side = scores.grid, scores.grid.stride
    top, left = scores.rows[part] * side, scores.cols[part] * side
    bottom, right = np.minimum(top + side, grid.height), np.minimum(left + side, grid.width)
    boxes: NDArray[np.object_] = shapely.box(left, top, right, bottom)
    return boxes
