"""Maps of texture and edges, by an early stage of a pretrained network: what changes when things do, and not when light does."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import timm
import torch
from torch import nn
from torch.nn.functional import interpolate

from geoanom.embed.fold import fold_batch_norms
from geoanom.embed.lite0 import load_pretrained
from geoanom.embed.weights import fit_stem

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

N_BLOCKS = 2
STRIDE_PX = 4
N_CHANNELS = 24
REACH_PX = 32
"""Pixels farther away than this do not count."""
MEAN, STD = 127 / 255, 128 / 255


class StructureMaps:
    """The first blocks of EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946) with ImageNet's weights.

    Differences of such maps as a measure of change: Saha et al. 2019, doi:10.1109/TGRS.2018.2886643.
    """

    def __init__(self, n_bands: int) -> None:
        """Load the network for a number of bands."""
        net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        load_pretrained(net, "package")
        stem, blocks = net.get_submodule("conv_stem"), cast("nn.Sequential", net.get_submodule("blocks"))
        stem.weight = nn.Parameter(fit_stem(cast("Tensor", stem.weight).detach(), n_bands))
        self._net = nn.Sequential(stem, net.get_submodule("bn1"), *list(blocks)[:N_BLOCKS]).eval().requires_grad_(requires_grad=False)
        fold_batch_norms(self._net)

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Maps (channel, row, col) of an image (band, row, col) on a scale of 0..1, whose sides are multiples of `STRIDE_PX`."""
        with torch.inference_mode():
            found = self._net(((torch.from_numpy(image)[None] - MEAN) / STD).contiguous(memory_format=torch.channels_last))
            full = interpolate(found, scale_factor=STRIDE_PX, mode="bilinear", align_corners=False)
        return np.ascontiguousarray(full[0].numpy())
