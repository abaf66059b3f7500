"""A head that learns from the labels of a few tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from geoanom.embed.contrastive import EmbeddingHead
from geoanom.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

COLUMNS = ["scene", "row", "col", "label"]
UNLABELLED = -1


class Supervised(EmbeddingHead):
    """Tiles of one label lie together and apart from others (supervised contrast, Khosla et al. 2020, arXiv:2004.11362).

    No classes are built in, so that a head file needs no list of them. Without hidden layers the head is linear.
    """

    needs_labels = True

    def __init__(
        self,
        n_features: int,
        hidden: Sequence[int],
        dim: int,
        *,
        dropout: float = 0.0,
        batch_norm: bool = False,
        temperature: float = 0.2,
    ) -> None:
        """Draw the weights from torch's global generator; the arguments are those of `DenseAutoencoder`."""
        super().__init__(n_features, hidden, dim, dropout=dropout, batch_norm=batch_norm)
        self.temperature = temperature

    def losses_with(self, features: Tensor, beside: Tensor) -> Tensor:
        """Loss (n,) of tiles with labels (n,)."""
        return label_losses(self.encode(features), beside, self.temperature)

    def losses(self, features: Tensor) -> Tensor:
        """The loss where every tile is of a label of its own: nothing, (n,)."""
        return self.losses_with(features, torch.arange(len(features), device=features.device))


def label_losses(points: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, equation 2).

    Args:
        points: (n, d).
        labels: (n,) whole numbers.
        temperature: divides the cosines.

    Returns:
        (n,); 0 for a tile whose label no other tile has.
    """
    directions = normalize(points, dim=1)
    itself = torch.eye(len(points), dtype=torch.bool, device=points.device)
    cosines = directions @ directions.T / temperature
    others = torch.logsumexp(cosines.masked_fill(itself, torch.finfo(cosines.dtype).min), dim=1, keepdim=True)
    alike = (labels[:, None] == labels[None]) & ~itself
    return ((others - cosines) * alike).sum(dim=1) / alike.sum(dim=1).clamp_min(1)


def read_labels(path: Path) -> pd.DataFrame:
    """A table of labelled tiles: scene, row, col, label, with one row for each tile.

    Raises:
        InputError: it cannot be read, lacks a column, or labels a tile twice.
    """
    try:
        table = pd.read_csv(path, dtype={"scene": str, "row": np.int64, "col": np.int64, "label": str}, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise InputError(path, f"is not a table of labels ({error})", f"write a CSV with the columns {','.join(COLUMNS)}") from error
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise InputError(path, f"has no column {missing[0]!r}", f"write a CSV with the columns {','.join(COLUMNS)}")
    twice = table[table.duplicated(COLUMNS[:3])]
    if len(twice):
        scene, row, col = twice.iloc[0][COLUMNS[:3]]
        raise InputError(path, f"labels tile {row}, {col} of {scene} twice", "keep one of its rows")
    return table[COLUMNS]


def label_codes(
    path: Path, scenes: Sequence[str] | NDArray[np.str_], rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The labels of tiles as numbers (n,), in alphabetical order of the labels; UNLABELLED where there is none.

    Args:
        path: a CSV for `read_labels`.
        scenes: (n,) name of each tile's scene.
        rows: (n,) tile rows.
        cols: (n,) tile columns.

    Raises:
        InputError: the table cannot be read, or names none of the tiles.
    """
    table = read_labels(path)
    table["code"] = table["label"].astype("category").cat.codes.astype(np.int64)
    tiles = pd.DataFrame({"scene": list(scenes), "row": rows, "col": cols})
    codes = tiles.merge(table, how="left", on=COLUMNS[:3])["code"].fillna(UNLABELLED).to_numpy(np.int64)
    if not (codes != UNLABELLED).any():
        known = ", ".join(sorted(set(tiles["scene"]))[:3])
        raise InputError(path, "labels none of the training tiles", f"the scenes are {known}; rows and columns count tiles from 0")
    return codes
