"""Tensors from arrays, for rooms that do not know torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def tensor_of(array: NDArray[Any]) -> Tensor:
    """A tensor on the CPU that shares the memory of an array."""
    return torch.from_numpy(array)
