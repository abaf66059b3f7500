"""geoanom-base: an embedding learned once on broad overhead imagery, shipped with the package and frozen.

An embedding that is fitted on an archive describes its normal tiles and throws away what makes the rare ones rare.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch

from geoanom.embed.autoencoder import FeatureHead
from geoanom.embed.backbones import Errors
from geoanom.embed.linear import PrincipalComponents
from geoanom.embed.statistics import N_STATISTICS
from geoanom.embed.weights import load_by_name, read_state
from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

PACKAGED = Path(__file__).with_name("data") / "geoanom_base.safetensors"
"""Made by `geoanom pretrain configs/pretrain.yaml`; README.md beside it says from what."""
WEIGHED_DIMS = 16
"""Axes whose spread the statistics are weighed against: those of the default embedding."""


class Base(FeatureHead):
    """Two statistics, and principal axes of broad imagery (Hotelling 1933, doi:10.1037/h0071325), as every archive's embedding.

    Only the standardization of `rows` is the archive's own. The reconstruction error is the residual off all packaged axes,
    however few of them the embedding takes.
    """

    least_distance = 1.0  # what moving the sample scene by a pixel, or noise of a hundredth of the range, changes in most tiles
    broad: PrincipalComponents

    def __init__(self, n_features: int, dim: int) -> None:
        """Read the packaged axes; nothing is drawn or trained.

        Args:
            n_features: F; the first of them are those that the axes stand on.
            dim: d, the first axes that are taken.

        Raises:
            ConfigError: there are too few features or axes, or the package is damaged.
        """
        super().__init__(n_features)
        state = _packaged_state()
        n_columns, n_axes = state["axes"].shape
        if n_features < n_columns:
            remedy = "set embed.head.kind to autoencoder"
            raise ConfigError("embed.head.kind", f"base needs {n_columns} features, the backbone gives {n_features}", remedy)
        if dim > n_axes:
            remedy = f"use at most {n_axes}, or set embed.head.kind to autoencoder"
            raise ConfigError("embed.dim", f"geoanom-base has {n_axes} dimensions, {dim} are asked for", remedy)
        self.dim, self.n_columns = dim, n_columns
        self.broad = PrincipalComponents(n_columns, n_axes)
        load_by_name(self.broad, state, str(PACKAGED))

    def encode(self, features: Tensor) -> Tensor:
        """(n, F) to (n, d)."""
        return self.broad.encode(features[:, : self.n_columns])[:, : self.dim]

    def losses(self, features: Tensor) -> Tensor:
        """Mean squared residual of the features, standardized as the broad imagery's were, (n,)."""
        return self.broad.losses(features[:, : self.n_columns])

    def errors(self, features: Tensor, valid: Tensor) -> Errors:  # noqa: ARG002 - the features left out what is not valid
        """Mean squared residual per tile; features have no pixels."""
        return Errors(tile=self.losses(features), pixel=None)


def _packaged_state() -> dict[str, Tensor]:
    state = read_state(PACKAGED)
    if state.keys() != PrincipalComponents(1, 1).state_dict().keys():
        raise ConfigError(PACKAGED, "does not hold the axes of geoanom-base", "install geoanom again")
    return state


def fit_axes(features: Tensor, dim: int, statistics_share: float) -> PrincipalComponents:
    """Axes of features (n, F), standardized by their own median and spread: the statistics, then the principal axes of the others.

    Args:
        features: two statistics of the pixels, then features of a network.
        dim: number of axes.
        statistics_share: spread of the statistics together, as a share of that of the first principal axes.

    Returns:
        Orthogonal axes, of which those of the statistics are stretched by `scale`.
    """
    head, n = PrincipalComponents(features.shape[1], dim), N_STATISTICS
    head.prepare(features)
    principal = PrincipalComponents(features.shape[1] - n, dim - n)
    principal.prepare(features[:, n:])
    principal.settle(features[:, n:])
    head.mean.copy_(torch.cat([head.rows(features)[:, :n].mean(dim=0), principal.mean]))
    head.axes[:n, :n] = torch.eye(n)
    head.axes[n:, n:] = principal.axes
    spread = head.encode(features).std(dim=0)
    wanted = statistics_share * spread[n:WEIGHED_DIMS].norm() / n**0.5
    head.scale[:n] = spread[:n] / wanted
    return head


def explained_variance(head: PrincipalComponents, features: Tensor) -> list[float]:
    """Share of the variance of the standardized features (n, F) that each axis holds."""
    rows, code = head.rows(features).double(), (head.encode(features) * head.scale).double()
    shares: list[float] = (code.var(dim=0) / rows.var(dim=0).sum()).tolist()
    return shares


def axes_bytes(head: PrincipalComponents, note: Mapping[str, Any]) -> bytes:
    """The axes as the content of a safetensors file that carries a note on how they were made."""
    state = {name: tensor.contiguous() for name, tensor in head.state_dict().items()}
    return safetensors.torch.save(state, {"geoanom": json.dumps(note, sort_keys=True)})


def packaged_note() -> dict[str, Any]:
    """How the packaged axes were made: settings, scenes and their digests, versions, explained variance."""
    with safetensors.safe_open(PACKAGED, framework="pt") as file:
        note: dict[str, Any] = json.loads(file.metadata()["geoanom"])
    return note
