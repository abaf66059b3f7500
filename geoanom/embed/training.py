"""The one training loop."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR
from tqdm import tqdm

from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from geoanom.config import Training
    from geoanom.embed.backbones import Autoencoder


def train(model: Autoencoder, features: Tensor, settings: Training, *, seed: int, device: torch.device, title: str) -> Autoencoder:
    """Train an autoencoder on unlabelled tiles that contain the anomalies, too.

    In every batch the tiles with the largest loss are left out, so that what is rare is not learned. Training stops when
    the loss of held-out tiles, trimmed in the same way, has not fallen for `settings.patience` epochs; the best weights win.

    Args:
        model: changed in place, and returned.
        features: (n, ...).
        settings: epochs, batch size, learning rate, weight decay, patience, holdout, trim.
        seed: order of the tiles and choice of the held-out ones.
        device: where to train.
        title: shown beside the progress bar.

    Raises:
        ConfigError: the training diverged from the start.
    """
    model.to(device).train()
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(features), generator=draw)
    n_held_out = max(1, int(settings.holdout * len(features))) if len(features) > 1 else 0
    held_out, kept = (features[order[:n_held_out]] if n_held_out else features), order[n_held_out:]
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = CosineAnnealingLR(optimizer, settings.epochs * len(_batches(kept, settings.batch_size)))
    best, best_state, stale = float("inf"), copy.deepcopy(model.state_dict()), 0
    for _ in tqdm(range(settings.epochs), desc=title, unit="epoch", disable=None):
        for batch in _batches(kept[torch.randperm(len(kept), generator=draw)], settings.batch_size):
            optimizer.zero_grad()
            loss = trimmed(model.losses(features[batch].to(device)), settings.trim_fraction)
            loss.backward()  # type: ignore[no-untyped-call]  # torch has left it without types
            optimizer.step()
            schedule.step()
        held_out_loss = _held_out_loss(model, held_out, settings, device)
        if held_out_loss < best:
            best, best_state, stale = held_out_loss, copy.deepcopy(model.state_dict()), 0
        else:
            stale += 1
        if stale >= settings.patience:
            break
    if not math.isfinite(best):
        raise ConfigError("embed.training", "the loss was never a number", "lower embed.training.learning_rate")
    model.load_state_dict(best_state)
    model.eval().requires_grad_(False)
    model.settle(features.to(device))
    return model


def trimmed(losses: Tensor, fraction: float) -> Tensor:
    """Mean of the losses (n,) without the largest `fraction` of them; at least one is kept."""
    keep = max(1, len(losses) - int(fraction * len(losses)))
    return losses.topk(keep, largest=False).values.mean()


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """Places (n,) in batches of `size`; a last one of a single place joins the one before, as one tile has no batch statistics."""
    parts = list(torch.split(order, size))
    if size > 1 and len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def _held_out_loss(model: Autoencoder, features: Tensor, settings: Training, device: torch.device) -> float:
    model.eval()
    with torch.no_grad():
        losses = torch.cat([model.losses(part.to(device)) for part in torch.split(features, settings.batch_size)])
    model.train()
    return float(trimmed(losses, settings.trim_fraction))
