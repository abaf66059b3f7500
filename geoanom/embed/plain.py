"""Plain pretrained features, as anyone would take them off the shelf: what geoanom is compared with."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, cast

import numpy as np
import timm
import torch
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from geoanom.embed.lite0 import load_pretrained
from geoanom.embed.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor, nn

INPUT_PX = 224
BATCH = 16


@torch.inference_mode()
@one_thread()
def pooled_lite0(images: NDArray[np.floating]) -> NDArray[np.float32]:
    """EfficientNet-Lite0's pooled features with ImageNet weights (Tan and Le 2019, arXiv:1905.11946).

    Args:
        images: (n, 3, row, col), 0..255 in the order red, green, blue; resized to 224 x 224 as Pillow does, without its rounding.

    Returns:
        (n, 1280); an image's features do not depend on the others.
    """
    net, parts = _network(), [np.empty((0, 1280), np.float32)]
    for start in range(0, len(images), BATCH):
        part = torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH], np.float32))
        padded = torch.cat([part, part[:1].expand(BATCH - len(part), -1, -1, -1)])  # one batch size, one order of sums
        large = interpolate(padded, (INPUT_PX, INPUT_PX), mode="bilinear", antialias=True, align_corners=False)
        maps = cast("Callable[[Tensor], Tensor]", net.forward_features)((large - 127) / 128)
        parts.append(adaptive_avg_pool2d(maps, 1).flatten(1)[: len(part)].numpy())
    return np.concatenate(parts)


@cache
def _network() -> nn.Module:
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    load_pretrained(net, "package")
    return net.eval()
