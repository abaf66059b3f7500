"""Cells as bytes: in stripes of lattice rows, so that a band of rows is read without the rest."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from geoanom.monitor.values import Cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

STRIPE = 32
"""Lattice rows in a stripe; stripes of all looks begin at multiples of it."""
KINDS = ("valid", "score", "descriptor")
LEVEL = 1
"""Of deflate: descriptors hardly shrink further."""


def stripes_of(first: int, last: int) -> range:
    """Numbers of the stripes that hold the lattice rows from first up to but not including last."""
    return range(first // STRIPE, -(-last // STRIPE)) if last > first else range(0)


def packed(cells: Cells) -> Iterator[dict[str, Any]]:
    """Rows of the table of cells, without the digest."""
    last = cells.row + len(cells.valid)
    for stripe in stripes_of(cells.row, last):
        rows = slice(max(stripe * STRIPE, cells.row) - cells.row, min((stripe + 1) * STRIPE, last) - cells.row)
        for kind in KINDS:
            yield {"kind": kind, "stripe": stripe, **_packed(getattr(cells, kind)[rows])}


def unpacked(found: Iterable[Any], place: tuple[int, int, int, int], rows: range | None) -> Cells:
    """Cells from their stripes.

    Args:
        found: rows of the table, in the order of stripes; all that hold any of the lattice rows.
        place: first row, first column, number of rows and columns of the look.
        rows: lattice rows that are wanted; None for all.
    """
    row, col, n_rows, _ = place
    first, last = (row, row + n_rows) if rows is None else (max(row, rows.start), min(row + n_rows, rows.stop))
    last = max(first, last)
    parts: dict[str, list[NDArray[np.float32]]] = {kind: [] for kind in KINDS}
    for stripe in found:
        held = max(stripe.stripe * STRIPE, row)
        values = _unpacked(stripe)
        parts[stripe.kind].append(values[max(first - held, 0) : max(last - held, 0)])
    return Cells(row=first, col=col, **{kind: _joined(parts[kind], kind, place) for kind in KINDS})


def _packed(values: NDArray[Any]) -> dict[str, Any]:
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return {"dtype": little.dtype.str, "shape": json.dumps(little.shape), "data": zlib.compress(little.tobytes(), LEVEL)}


def _unpacked(stripe: Any) -> NDArray[Any]:
    raw = zlib.decompress(stripe.data)
    return np.frombuffer(raw, np.dtype(stripe.dtype)).reshape(json.loads(stripe.shape))


def _joined(parts: list[NDArray[np.float32]], kind: str, place: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """A look without a row in the band has no rows, and as many columns as ever."""
    if parts:
        return np.concatenate(parts)
    return np.empty((0, place[3], 0) if kind == "descriptor" else (0, place[3]), np.float32)
