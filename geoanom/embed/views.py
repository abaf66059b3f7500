"""What a backbone is shown of a patch: the pixels, and the pixels with their local contrast evened out.

The second view makes texture in dark, flat water weigh as much as texture on bright land.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

SOFT = 0.5
GAIN = 0.2
"""Local standard deviation of the second view."""
LEAST_CONTRAST = 0.004
"""Contrast that is noise rather than texture, as a share of the normalized range."""
N_VIEWS = 2


def two_views(patches: Tensor, valid: Tensor, box: int) -> Tensor:
    """Both views of patches; pixels that are not valid take the mean around them, so that they draw no edge.

    Args:
        patches: (n, band, row, col), normalized.
        valid: (n, row, col), True = usable.
        box: side, in pixels, of the neighbourhood that contrast is measured in.

    Returns:
        (n, 2 * band, row, col): the plain bands, then the evened ones.
    """
    weight = valid[:, None].to(patches.dtype)
    share = box_mean(weight, box)
    patches = torch.where(valid[:, None], patches, 0.0)  # so that not even NaN passes from pixels that are not valid
    overall = patches.sum(dim=(2, 3), keepdim=True) / weight.sum(dim=(2, 3), keepdim=True).clamp_min(1.0)
    centred = (patches - overall) * weight  # around 0, so that the variance below does not cancel
    mean = box_mean(centred, box) / share.clamp_min(1e-6)
    variance = box_mean(centred.square(), box) / share.clamp_min(1e-6) - mean.square()
    filled = torch.where(valid[:, None], centred, mean)
    evened = 0.5 + GAIN * (filled - mean) / (variance.clamp_min(0.0).sqrt() + LEAST_CONTRAST)
    return torch.cat([filled + overall, soft_clip(evened)], dim=1)


def mirrored(patches: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Patches of one batch, continued beyond the edges of what is valid in them as in a mirror, and what is valid then.

    A flat margin beyond a scene's edge would give all tiles beside it features of their own.

    Args:
        patches: (n, band, row, col).
        valid: (n, row, col), True = usable.
    """
    shown = [_mirrored(patch, usable) for patch, usable in zip(patches, valid, strict=True)]
    return torch.stack([patch for patch, _ in shown]), torch.stack([usable for _, usable in shown])


def _mirrored(patch: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    if valid[0].any() and valid[-1].any() and valid[:, 0].any() and valid[:, -1].any():
        return patch, valid
    rows, cols = (_reflection(valid.any(dim=dim)) for dim in (1, 0))
    return patch[:, rows][:, :, cols], valid[rows][:, cols]


def _reflection(known: Tensor) -> Tensor:
    """For every place of a line the place between the first and the last known one that mirrors show there."""
    places = torch.arange(len(known), device=known.device)
    if not known.any():
        return places
    first, last = (int(end) for end in known.nonzero()[[0, -1], 0])
    length = last - first + 1
    folded = (places - first) % (2 * length)
    return first + torch.where(folded < length, folded, 2 * length - 1 - folded)


def soft_clip(x: Tensor) -> Tensor:
    """Leave 0..1 as it is and bend what lies beyond to at most SOFT further."""
    excess = x - x.clamp(0.0, 1.0)
    return x - excess + SOFT * torch.tanh(excess / SOFT)


def box_mean(x: Tensor, box: int) -> Tensor:
    """Mean over a square of odd side around each pixel of (n, channel, row, col), cut off at the edges."""
    radius = min(box // 2, min(x.shape[-2:]) // 2)
    return _line_mean(_line_mean(x, radius, -1), radius, -2)


def _line_mean(x: Tensor, radius: int, dim: int) -> Tensor:
    """Mean of up to 2 * radius + 1 neighbours along one axis, by running sums, whose cost does not grow with the radius."""
    n = x.shape[dim]
    sums = pad(x.double().cumsum(dim).movedim(dim, -1), (1, 0))  # (..., n + 1)
    place = torch.arange(n, device=x.device)
    first, end = (place - radius).clamp_min(0), (place + radius + 1).clamp_max(n)
    mean = (sums[..., end] - sums[..., first]) / (end - first)
    return mean.to(x.dtype).movedim(-1, dim)
