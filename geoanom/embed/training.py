"""The one training loop."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, StepLR
from tqdm import tqdm

from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from geoanom.config import Training
    from geoanom.embed.backbones import Autoencoder

N_STEPS_DOWN = 3


@dataclass(frozen=True)
class _Tiles:
    """What a head learns from."""

    features: Tensor
    beside: Tensor | None
    """(n, ...) other views, or (n,) labels; None where the head needs neither."""

    def __len__(self) -> int:
        return len(self.features)

    def at(self, places: Tensor) -> _Tiles:
        return _Tiles(self.features[places], None if self.beside is None else self.beside[places])

    def losses(self, model: Autoencoder, device: torch.device) -> Tensor:
        features = self.features.to(device)
        return model.losses(features) if self.beside is None else model.losses_with(features, self.beside.to(device))


def train(
    model: Autoencoder,
    features: Tensor,
    settings: Training,
    *,
    seed: int,
    device: torch.device,
    title: str,
    views: Tensor | None = None,
    labels: Tensor | None = None,
) -> Autoencoder:
    """Train a head on tiles that contain the anomalies, too.

    In every batch the tiles with the largest loss are left out, so that what is rare is not learned. Training stops when
    the loss of held-out tiles, trimmed in the same way, has not fallen for `settings.patience` epochs; the best weights win.

    Args:
        model: changed in place, and returned.
        features: (n, ...).
        settings: epochs, batch size, learning rate and its schedule, weight decay, patience, holdout, trim.
        seed: order of the tiles and choice of the held-out ones.
        device: where to train.
        title: shown beside the progress bar.
        views: (n, ...) features of the same tiles under another augmentation, where the head needs them.
        labels: (n,) whole numbers, negative for tiles without a label, where the head needs them.

    Raises:
        ConfigError: the training diverged from the start, or there are too few labels.
    """
    model.to(device).train()
    if list(model.parameters()):  # a closed form has none
        _learn(model, _lesson(model, features, views, labels), settings, seed=seed, device=device, title=title)
    model.eval().requires_grad_(False)
    model.settle(features.to(device))
    return model


def _lesson(model: Autoencoder, features: Tensor, views: Tensor | None, labels: Tensor | None) -> _Tiles:
    """The tiles and what the head needs to know beside their features; of labelled ones only those with a label."""
    if model.needs_views:
        if views is None:
            raise ValueError(f"{type(model).__name__} learns from other views of the tiles, give them")
        return _Tiles(features, views)
    if model.needs_labels:
        if labels is None:
            raise ValueError(f"{type(model).__name__} learns from labels, give them")
        return _labelled(features, labels)
    return _Tiles(features, None)


def _labelled(features: Tensor, labels: Tensor) -> _Tiles:
    places = torch.nonzero(labels >= 0).flatten()
    counts = torch.bincount(labels[places])
    n_labels = int((counts > 0).sum())
    if n_labels < 2 or int(counts.max()) < 2:
        wrong = f"gives {len(places)} tiles to train on with {n_labels} different labels"
        raise ConfigError("embed.head.labels", wrong, "label tiles of two kinds or more, all over the scenes")
    return _Tiles(features, labels).at(places)


def _learn(model: Autoencoder, tiles: _Tiles, settings: Training, *, seed: int, device: torch.device, title: str) -> None:
    """Change the model's weights to the best ones that were met."""
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(tiles), generator=draw)
    spared = len(tiles) < 2 or model.needs_labels  # labels are too few to hold any out
    n_held_out = 0 if spared else max(1, int(settings.holdout * len(tiles)))
    held_out, kept = (tiles.at(order[:n_held_out]) if n_held_out else tiles), order[n_held_out:]
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = schedule_of(optimizer, settings, settings.epochs * len(shuffled_batches(kept, settings.batch_size)))
    best, best_state, stale = float("inf"), copy.deepcopy(model.state_dict()), 0
    for _ in tqdm(range(settings.epochs), desc=title, unit="epoch", disable=None):
        for batch in shuffled_batches(kept[torch.randperm(len(kept), generator=draw)], settings.batch_size):
            optimizer.zero_grad()
            loss = trimmed(tiles.at(batch).losses(model, device), settings.trim_fraction)
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


def schedule_of(optimizer: Optimizer, settings: Training, n_steps: int) -> LRScheduler:
    """The learning rate over all steps: to zero along a cosine, always the same, or a tenth from third to third."""
    match settings.schedule:
        case "cosine":
            return CosineAnnealingLR(optimizer, n_steps)
        case "constant":
            return ConstantLR(optimizer, factor=1.0)
        case "step":
            return StepLR(optimizer, max(1, -(-n_steps // N_STEPS_DOWN)), gamma=0.1)


def trimmed(losses: Tensor, fraction: float) -> Tensor:
    """Mean of the losses (n,) without the largest `fraction` of them; at least one is kept."""
    keep = max(1, len(losses) - int(fraction * len(losses)))
    return losses.topk(keep, largest=False).values.mean()


def shuffled_batches(order: Tensor, size: int) -> list[Tensor]:
    """Places (n,) in batches of `size`; a last one of a single place joins the one before, as one tile has no batch statistics."""
    parts = list(torch.split(order, size))
    if size > 1 and len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def _held_out_loss(model: Autoencoder, tiles: _Tiles, settings: Training, device: torch.device) -> float:
    model.eval()
    with torch.no_grad():
        parts = torch.split(torch.arange(len(tiles)), settings.batch_size)
        losses = torch.cat([tiles.at(part).losses(model, device) for part in parts])
    model.train()
    return float(trimmed(losses, settings.trim_fraction))
