"""Fine-tuning: the last blocks of a backbone go on learning from an archive's own tiles, without labels.

Two views of a tile, shifted, turned and in other light, shall have like features, and views of different tiles unlike ones
(SimCLR, Chen et al. 2020, arXiv:2002.05709). What the loss sees is a projection of the features that is then dropped.

The tiles are kept in memory, a bounded number of them, and not read again in every epoch: each batch needs tiles from all
over the archive, and whatever stands side by side in a file would make a batch of neighbours, which are alike for a reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW
from tqdm import tqdm

from geoanom.config import Training
from geoanom.embed.augment import augmented, seed_of
from geoanom.embed.backbones import PooledBackbone
from geoanom.embed.contrastive import Contrastive
from geoanom.embed.embedder import learns_from_views
from geoanom.embed.threads import one_thread
from geoanom.embed.training import schedule_of, shuffled_batches, trimmed
from geoanom.errors import ConfigError
from geoanom.raster.grid import MARGIN_PX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch.nn import Parameter

    from geoanom.config import Embed
    from geoanom.embed.embedder import Embedder
    from geoanom.raster.blocks import TileBlock
    from geoanom.raster.normalize import Normalizer

SHIFT_SHARE = 8
"""Tiles are shifted by up to their side divided by this."""
PROJECTOR_HIDDEN, PROJECTOR_DIM = (128,), 64
PROJECTOR_RATE = 10.0
"""How much faster the projector learns than the backbone: it starts from nothing."""
MAX_BYTES = 2**30
"""Of the tiles that are kept."""
CHUNK_PX = 2**19
"""Pixels that go through the frozen blocks at once, so that large tiles do not need more memory than small ones."""
PROBE_PX = 128
MAX_PREPARED = 256
"""Tiles by which the projector's input is standardized."""
OFF = "set it to 0"


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Tiles to learn from, each with enough of its surroundings to be shifted."""

    pixels: Tensor
    """(n, band, side, side) float16, normalized."""
    valid: Tensor
    """(n, side, side) True = usable."""
    size: int
    """Side of a tile in pixels."""

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.pixels)

    def view(self, places: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """The tiles at these places, shifted and augmented, (m, band, size, size), and what is valid of them, (m, size, size)."""
        draw = torch.Generator().manual_seed(seed)
        shifts = torch.randint(self.pixels.shape[-1] - self.size + 1, (len(places), 2), generator=draw).tolist()
        windows = [(i, slice(top, top + self.size), slice(left, left + self.size)) for i, (top, left) in zip(places, shifts, strict=True)]
        pixels = torch.stack([self.pixels[i, :, rows, cols] for i, rows, cols in windows])
        return augmented(pixels.float(), torch.stack([self.valid[window] for window in windows]), seed)


def most_crops(settings: Embed, n_bands: int, size: int) -> int:
    """How many tiles may be kept."""
    bytes_each = (2 * n_bands + 1) * (size + 2 * _slack_px(size)) ** 2
    return max(1, min(settings.fine_tune.max_tiles, MAX_BYTES // bytes_each))


def collect_crops(blocks: Iterable[TileBlock], normalizer: Normalizer, per_block: int, seed: int) -> Crops | None:
    """Up to `per_block` tiles of every block, chosen by the block's place and the seed alone; None where there are no blocks."""
    pixels, valid, size = [], [], 0
    for block in blocks:
        rng = np.random.default_rng([seed, int(block.rows[0]), int(block.cols[0])])
        chosen = np.sort(rng.permutation(len(block))[:per_block])
        values, size = torch.from_numpy(normalizer(block.values)).half(), block.size
        for rows, cols in _windows(block, chosen):
            pixels.append(values[:, rows, cols])
            valid.append(torch.from_numpy(block.valid[rows, cols]))
    return Crops(pixels=torch.stack(pixels), valid=torch.stack(valid), size=size) if pixels else None


def refuse_what_cannot_be_tuned(embedder: Embedder) -> None:
    """Say so before the scenes are read where a backbone cannot be fine-tuned, or its head would not fit it then.

    Raises:
        ConfigError: the backbone has no blocks that could learn, or the head was fitted to the features as they were.
    """
    settings = embedder.settings
    if not last_blocks(embedder):
        wrong = f"{settings.backbone} has no pretrained blocks that could be fine-tuned"
        raise ConfigError("embed.fine_tune.epochs", wrong, f"{OFF}, or choose another embed.backbone")
    if settings.head.path is not None:
        wrong = "a head file does not fit a backbone that is fine-tuned after the head was fitted"
        raise ConfigError("embed.head.path", wrong, "set it to null, or embed.fine_tune.epochs to 0")
    learns_from_views(embedder)  # builds a head, which may refuse


@torch.enable_grad()
def last_blocks(embedder: Embedder) -> list[Parameter]:
    """The parameters that only the last feature map depends on; none where the backbone has no maps before it."""
    backbone = embedder.backbone
    if not isinstance(backbone, PooledBackbone) or not list(backbone.parameters()):
        return []
    parameters = list(backbone.requires_grad_(requires_grad=True).parameters())
    try:
        maps = backbone.maps(torch.zeros(1, len(embedder.normalizer.low), PROBE_PX, PROBE_PX, device=embedder.device), 0)
        if len(maps) == 1:
            return []
        total = torch.stack([each.sum() for each in maps[:-1]]).sum()
        before = torch.autograd.grad(total, parameters, allow_unused=True)
    finally:
        backbone.requires_grad_(requires_grad=False)
    return [parameter for parameter, gradient in zip(parameters, before, strict=True) if gradient is None]


@one_thread()
def fine_tune(embedder: Embedder, crops: Crops, seed: int) -> list[float]:
    """Let the last blocks of an embedder's backbone learn, in place; all others, and the statistics of batch norms, stay.

    As in the training of heads, the tiles with the largest loss of every batch are left out: the scenes contain the anomalies.

    Args:
        embedder: with or without heads; heads do not fit the features any more.
        crops: at least two.
        seed: order of the tiles, their views, and the projector's first weights.

    Returns:
        The mean loss of each epoch.

    Raises:
        ConfigError: the training diverged.
    """
    learning, projector = last_blocks(embedder), _projector(embedder, crops, seed)
    for parameter in learning:
        parameter.requires_grad = True
    try:
        losses = list(_steps(embedder, projector, learning, crops, seed))
    finally:
        embedder.backbone.requires_grad_(requires_grad=False).zero_grad()
    per_epoch: list[float] = torch.tensor(losses).reshape(embedder.settings.fine_tune.epochs, -1).mean(dim=1).tolist()
    return per_epoch


def _steps(embedder: Embedder, projector: Contrastive, learning: Sequence[Parameter], crops: Crops, seed: int) -> Iterator[float]:
    """The loss of every step, as it is made."""
    settings, order = embedder.settings.fine_tune, torch.Generator().manual_seed(seed)
    batches = [
        batch
        for _ in range(settings.epochs)
        for batch in shuffled_batches(torch.randperm(len(crops), generator=order), settings.batch_size)
    ]
    groups: list[dict[str, Any]] = [
        {"params": learning},
        {"params": list(projector.parameters()), "lr": PROJECTOR_RATE * settings.learning_rate},
    ]
    optimizer = AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = schedule_of(optimizer, Training(schedule=settings.schedule), len(batches))
    for step, batch in enumerate(tqdm(batches, desc="fine-tuning", unit="step", disable=None)):
        one, other = (_features(embedder, *crops.view(batch, seed_of(seed, step, number))) for number in range(2))
        loss = trimmed(projector.losses_with(one, other), embedder.settings.training.trim_fraction)
        if not loss.isfinite():
            raise ConfigError("embed.fine_tune", "the loss is not a number any more", "lower embed.fine_tune.learning_rate")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has left it without types
        optimizer.step()
        schedule.step()
        yield float(loss.detach())


def _projector(embedder: Embedder, crops: Crops, seed: int) -> Contrastive:
    """A new head that stands between the features and the loss."""
    device, head = embedder.device, embedder.settings.head
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        projector = Contrastive(embedder.backbone.n_features[0], PROJECTOR_HIDDEN, PROJECTOR_DIM, temperature=head.temperature)
    some = torch.randperm(len(crops), generator=torch.Generator().manual_seed(seed))[:MAX_PREPARED]
    with torch.no_grad():
        projector.to(device).prepare(_features(embedder, *crops.view(some, seed)))
    return projector.train()


def _features(embedder: Embedder, pixels: Tensor, valid: Tensor) -> Tensor:
    """Features (n, F) of tiles that are each a patch of their own; unlike the embedder's they can be learned through."""
    each = max(1, CHUNK_PX // pixels.shape[-1] ** 2)
    parts = zip(torch.split(pixels, each), torch.split(valid, each), strict=True)
    device, backbone = embedder.device, embedder.backbone
    return torch.cat([backbone.features(part.to(device), usable.to(device), [[(0, 0)]] * len(part)) for part, usable in parts])


def _windows(block: TileBlock, chosen: Iterable[int]) -> Iterator[tuple[slice, slice]]:
    """Where the chosen tiles lie in the patch with what they may be shifted by; moved inward at the patch's edge."""
    slack = _slack_px(block.size)
    side = block.size + 2 * slack
    furthest = block.valid.shape[-1] - side
    for i in chosen:
        top, left = (int(np.clip(first[i] - slack, 0, furthest)) for first in (block.tops, block.lefts))
        yield slice(top, top + side), slice(left, left + side)


def _slack_px(size: int) -> int:
    """Largest shift of a tile; a patch shows no more around its tiles than its margin."""
    return min(size // SHIFT_SHARE, MARGIN_PX)
