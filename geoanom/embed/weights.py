"""Pretrained weights from a package, a local file or the network; never by unpickling objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch

from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a safetensors file, or in a torch file without any object but tensors.

    Raises:
        ConfigError: it cannot be read as weights.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigError(path, "does not exist", "set embed.weights to package, download, none or a file of weights") from error
    except Exception as error:  # torch raises pickle, zip and runtime errors of many kinds for a bad file
        raise ConfigError(path, "is not a file of plain weights", "save a state dict, best as .safetensors") from error
    return _plain_state(state, path)


def load_in_order(model: nn.Module, state: Mapping[str, Tensor], subject: str) -> None:
    """Load tensors by their order, for weights whose names come from another implementation of the same network.

    Raises:
        ConfigError: number or shapes of the tensors differ.
    """
    own = model.state_dict()
    if [t.shape for t in own.values()] != [t.shape for t in state.values()]:
        raise ConfigError(subject, "the weights are of another network", "choose weights made for this backbone")
    model.load_state_dict(dict(zip(own, state.values(), strict=True)))


def load_by_name(model: nn.Module, state: Mapping[str, Tensor], subject: str) -> None:
    """Load tensors by their names.

    Raises:
        ConfigError: names or shapes differ.
    """
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ConfigError(subject, "the weights are of another network", "choose weights made for this backbone") from error


def fit_stem(weight: Tensor, n_bands: int) -> Tensor:
    """A first convolution for any number of bands: its RGB filters repeated over the bands, or added up where bands are fewer.

    The response to equal bands is that of the RGB filters to a grey image.

    Args:
        weight: (out, 3, row, col).
        n_bands: number of bands.

    Returns:
        (out, n_bands, row, col).
    """
    n_filters = weight.shape[1]
    if n_bands < n_filters:
        return torch.stack([weight[:, band::n_bands].sum(dim=1) for band in range(n_bands)], dim=1)
    order = torch.arange(n_bands) % n_filters
    times = torch.bincount(order, minlength=n_filters)  # how often each filter is repeated
    return weight[:, order] / times[order].view(1, -1, 1, 1)


def _plain_state(state: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ConfigError(path, "holds no state dict", "save model.state_dict(), best as .safetensors")
    return state
