"""Folding of frozen batch norms into the convolutions before them: the same function with less memory and time."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

if TYPE_CHECKING:
    from torch import Tensor


def fold_batch_norms(net: nn.Module) -> None:
    """Replace every convolution followed by timm's batch norm by one convolution, in place; the activation stays.

    Args:
        net: whose modules stand in the order in which they are called.
    """
    for parent in list(net.modules()):
        children = list(parent.named_children())
        for (_, conv), (name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, BatchNormAct2d):
                _fold(conv, norm)
                setattr(parent, name, norm.act)


def _fold(conv: nn.Conv2d, norm: BatchNormAct2d) -> None:
    mean, variance = _buffer(norm.running_mean), _buffer(norm.running_var)
    weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias)
    conv.weight, conv.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())


def _buffer(value: Tensor | None) -> Tensor:
    if value is None:
        raise TypeError("a batch norm without running statistics cannot be folded")
    return value.detach().to(torch.get_default_dtype())
