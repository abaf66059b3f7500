"""Spectra and how badly the pixels around explain them, for small things in hyperspectral scenes.

A thing of a few pixels is told by two questions: is its spectrum rare in the scene, and can it be mixed from the spectra
around it? The second is collaborative representation (Li and Du 2015, doi:10.1109/TGRS.2014.2343955), whose residual is
compared with what is usual nearby, because clutter is rougher in a town than on the sea.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from geoanom.embed.backbones import Autoencoder, Backbone, Errors
from geoanom.embed.head_kinds import kind_of
from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geoanom.config import Embed
    from geoanom.embed.backbones import Places

MAX_BINS = 256
"""Neighbouring bands are averaged to at most so many."""
MAX_MIXED_BINS = 32
"""The same where spectra are mixed: neighbouring bands say nearly the same, and the work grows with their square."""
LEAST_DISTANCE = 1e-7
"""Squared distance, for each bin on the normalized scale, below which spectra are the same."""
LEAST_ENERGY = 1e-8
"""Squared residual, on the normalized scale, that is rounding rather than clutter."""
LEAST_NEIGHBOURS = 8
"""With fewer valid pixels around it nothing can be said of a pixel."""
CLUTTER_GUARD_PX, CLUTTER_PX = 9, 31
"""Sides of the squares between which clutter is measured."""
CLUTTER_POWER = 0.75
"""1 divides by the clutter, 0 ignores it; less than 1, because the things sought are clutter to their neighbours."""
HALO_PX = 22
"""How far around a tile pixels matter: half of CLUTTER_PX and of the widest ring."""
CHUNK_PIXELS = 512
TRIM = 0.1
"""Share of the differences between neighbours, the largest, that are edges rather than noise."""
NOISE_FLOOR = 1e-3
"""Share of the mean noise variance added to all directions, so that those without noise do not dominate."""
LARGEST_LOG_RATIO = 20.0


@dataclass(frozen=True, kw_only=True)
class Ring:
    """The pixels that a pixel is mixed from, and how strongly unlike ones are held back."""

    inner: int
    """Side of the guard window, odd: a thing shall not explain itself."""
    outer: int
    """Side of the outer window, odd."""
    step: int
    """1 takes all pixels between, 2 every second."""
    penalty: float
    """Weight of the squared distance to each pixel in the regularization."""

    def offsets(self) -> list[tuple[int, int]]:
        """Row and column of each pixel of the ring, seen from its centre."""
        reach = range(-(self.outer // 2), self.outer // 2 + 1, self.step)
        return [(r, c) for r in reach for c in reach if max(abs(r), abs(c)) > self.inner // 2]


RINGS = (Ring(inner=5, outer=9, step=1, penalty=10.0), Ring(inner=5, outer=15, step=2, penalty=0.1))
"""A narrow ring, held to the likest neighbours, and a wide one that mixes freely: things and surroundings differ in size."""


class Spectrum(Backbone):
    """Means over each tile of its binned spectrum, of the difference to the pixels beside, and of log ratios of residuals."""

    binning: Tensor
    mixing: Tensor

    def __init__(self, n_bands: int, tile_size: int) -> None:
        """Set how bands are binned, and the side of a tile in pixels."""
        super().__init__()
        self.tile_size = tile_size
        self.register_buffer("binning", _binning(n_bands, MAX_BINS))
        self.register_buffer("mixing", _binning(n_bands, MAX_MIXED_BINS))
        self.n_bins = len(self.binning)
        self.n_features = (2 * self.n_bins + len(RINGS),)

    def features(self, patches: Tensor, valid: Tensor, places: Sequence[Places]) -> Tensor:
        """Window means of the maps over valid pixels, (n, 2 * bin + ring)."""
        parts = [self._of_patch(patch, usable, windows) for patch, usable, windows in zip(patches, valid, places, strict=False)]
        return torch.cat(parts)

    def autoencoder(self, settings: Embed) -> SpectrumHead:
        """Noise-whitened components of the spectrum.

        Raises:
            ConfigError: another kind of head is wanted.
        """
        kind = kind_of(settings)
        if kind != "autoencoder":  # the one there is would stand under another's name
            raise ConfigError("embed.head.kind", f"spectrum has no {kind} head", "use auto or autoencoder")
        return SpectrumHead(self.n_bins, settings.dim)

    def _of_patch(self, patch: Tensor, valid: Tensor, windows: Places) -> Tensor:
        usable = torch.where(valid, patch, 0.0).double()
        spectrum, mixed = (torch.einsum("kb,brc->krc", bins.double(), usable) for bins in (self.binning, self.mixing))
        wanted = valid & _near(windows, self.tile_size, valid)
        ratios = [_log_ratio(*_residual_energy(mixed, valid, wanted, ring)) for ring in RINGS]
        maps = torch.cat([spectrum, _detail(spectrum, valid), torch.stack(ratios)])
        return _window_means(maps, valid, self.tile_size, windows).float()


class SpectrumHead(Autoencoder):
    """Minimum noise fraction components (Green et al. 1988, doi:10.1109/36.3001) as the embedding, solved in closed form.

    Detectors see the embedding, a tile's spectrum, and as features the log ratios of its residuals to the clutter around;
    the reconstruction error is the geometric mean of these ratios.
    """

    center: Tensor
    encoder: Tensor
    decoder: Tensor

    def __init__(self, n_bins: int, dim: int) -> None:
        """Start with components of zero."""
        super().__init__()
        self.n_bins = n_bins
        self.register_buffer("center", torch.zeros(n_bins))
        self.register_buffer("encoder", torch.zeros(n_bins, dim))
        self.register_buffer("decoder", torch.zeros(dim, n_bins))

    def prepare(self, features: Tensor) -> None:
        """Find the components with the most signal for their noise; noise is what differs between pixels side by side."""
        spectra, details = features[:, : self.n_bins].double(), features[:, self.n_bins : 2 * self.n_bins].double()
        center = spectra.mean(dim=0)
        forward, back = _noise_fraction(spectra - center, _calm(details))
        n_used = min(self.encoder.shape[1], self.n_bins)
        self.center.copy_(center)
        self.encoder[:, :n_used] = forward[:, :n_used].float()
        self.decoder[:n_used] = back[:n_used].float()

    def rows(self, features: Tensor) -> Tensor:
        """Log ratios of residual to clutter, one for each ring, (n, ring)."""
        return self._log_ratios(features)

    def encode(self, features: Tensor) -> Tensor:
        """(n, F) to (n, d); with more dimensions than bins the last ones are 0."""
        return (features[:, : self.n_bins] - self.center) @ self.encoder

    def losses(self, features: Tensor) -> Tensor:
        """Mean squared error of the spectra that the embedding leads back to, (n,)."""
        back = self.encode(features) @ self.decoder + self.center
        return (back - features[:, : self.n_bins]).square().mean(dim=1)

    def errors(self, features: Tensor, valid: Tensor) -> Errors:  # noqa: ARG002 - the features left out what is not valid
        """How badly the surroundings explain each tile, against what is usual there."""
        return Errors(tile=torch.exp(self._log_ratios(features).mean(dim=1) / 2), pixel=None)  # of energies to of amplitudes

    def _log_ratios(self, features: Tensor) -> Tensor:
        return features[:, 2 * self.n_bins :].clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)


def build(settings: Embed, n_bands: int, tile_size: int) -> Spectrum:  # noqa: ARG001 - nothing here has weights or zoom
    """Build the backbone for a number of bands and a side of tiles."""
    return Spectrum(n_bands, tile_size)


def _binning(n_bands: int, most: int) -> Tensor:
    """Weights (bin, band) that average neighbouring bands to at most so many bins."""
    n_bins = min(n_bands, most)
    bins = torch.arange(n_bands) * n_bins // n_bands
    member = (bins == torch.arange(n_bins)[:, None]).float()
    return member / member.sum(dim=1, keepdim=True)


def _near(windows: Places, size: int, valid: Tensor) -> Tensor:
    """Where a residual matters to one of the tiles, (row, col)."""
    near, reach = torch.zeros_like(valid), CLUTTER_PX // 2
    tops, lefts = zip(*windows, strict=True)
    near[max(0, min(tops) - reach) : max(tops) + size + reach, max(0, min(lefts) - reach) : max(lefts) + size + reach] = True
    return near


def _residual_energy(spectrum: Tensor, valid: Tensor, wanted: Tensor, ring: Ring) -> tuple[Tensor, Tensor]:
    """What the ring leaves unexplained of each wanted pixel.

    Args:
        spectrum: (bin, row, col), 0 where not valid.
        valid: (row, col).
        wanted: (row, col) where to compute.
        ring: its neighbours.

    Returns:
        The log of the mean squared residual, and where it is known, both (row, col).
    """
    reach, (n_rows, n_cols) = ring.outer // 2, valid.shape
    width = n_cols + 2 * reach
    pixels = pad(spectrum, (reach,) * 4).flatten(1).T.contiguous()  # (pixel, bin)
    usable = pad(valid, (reach,) * 4).flatten()
    steps = torch.tensor([r * width + c for r, c in ring.offsets()], device=spectrum.device)
    energy, known = torch.zeros(n_rows * n_cols, dtype=spectrum.dtype, device=spectrum.device), torch.zeros_like(wanted).flatten()
    for chunk in torch.split(wanted.flatten().nonzero()[:, 0], CHUNK_PIXELS):
        at = (chunk // n_cols + reach) * width + chunk % n_cols + reach
        around = at[:, None] + steps
        residual = _unexplained(pixels[at], pixels[around], usable[around], ring.penalty)
        energy[chunk] = torch.log(residual.square().mean(dim=1) + LEAST_ENERGY)
        known[chunk] = usable[around].sum(dim=1) >= LEAST_NEIGHBOURS
    return energy.view(n_rows, n_cols), known.view(n_rows, n_cols)


def _unexplained(spectra: Tensor, around: Tensor, usable: Tensor, penalty: float) -> Tensor:
    """Residuals (n, bin) of spectra (n, bin) represented by those around (n, m, bin), distant ones held back.

    The residual of ridge regression is (I + X' W X)^-1 y, a system of the size of the bins and not of the ring.
    """
    distance = (around - spectra[:, None]).square().sum(dim=2) + LEAST_DISTANCE * spectra.shape[1]
    weighted = around * (usable / (penalty * distance)).sqrt()[:, :, None]  # (n, m, bin)
    system = weighted.transpose(1, 2) @ weighted + torch.eye(spectra.shape[1], dtype=spectra.dtype, device=spectra.device)
    return torch.cholesky_solve(spectra[:, :, None], torch.linalg.cholesky(system))[:, :, 0]


def _log_ratio(energy: Tensor, known: Tensor) -> Tensor:
    """Log energy above what is usual around, where it is known, and 0 elsewhere, (row, col)."""
    inside, weight = torch.where(known, energy, 0.0), known.to(energy.dtype)
    total = _box_sum(inside, CLUTTER_PX) - _box_sum(inside, CLUTTER_GUARD_PX)
    count = _box_sum(weight, CLUTTER_PX) - _box_sum(weight, CLUTTER_GUARD_PX)
    usual = torch.where(count > 0.5, total / count.clamp_min(1.0), energy)
    return torch.where(known, energy - CLUTTER_POWER * usual, 0.0)


def _detail(spectrum: Tensor, valid: Tensor) -> Tensor:
    """Each pixel minus the mean of the valid ones that touch it, (bin, row, col)."""
    weight = valid.to(spectrum.dtype)
    total, count = _box_sum(spectrum, 3) - spectrum, _box_sum(weight, 3) - weight
    return torch.where(valid & (count > 0.5), spectrum - total / count.clamp_min(1.0), 0.0)


def _box_sum(maps: Tensor, side: int) -> Tensor:
    """Sums over squares of odd side around each pixel of (..., row, col); beyond the edge all is 0."""
    flat, reach = maps.reshape(1, -1, *maps.shape[-2:]), side // 2
    across = avg_pool2d(flat, (1, side), stride=1, padding=(0, reach), divisor_override=1)
    return avg_pool2d(across, (side, 1), stride=1, padding=(reach, 0), divisor_override=1).reshape(maps.shape)


def _window_means(maps: Tensor, valid: Tensor, size: int, windows: Places) -> Tensor:
    """Means of maps (channel, row, col) over the valid part of each window, (n, channel)."""
    weight = valid.to(maps.dtype)[None]
    sums = torch.cat([maps * weight, weight])[None]
    sums = avg_pool2d(avg_pool2d(sums, (1, size), stride=1), (size, 1), stride=1)[0]
    tops, lefts = torch.tensor(windows, device=maps.device).T
    found = sums[:, tops, lefts].T
    return found[:, :-1] / found[:, -1:].clamp_min(0.5 / size**2)


def _calm(details: Tensor) -> Tensor:
    """Differences (n, bin) without the largest, which are edges."""
    energy = details.square().sum(dim=1)
    return details[energy <= energy.kthvalue(max(1, int((1 - TRIM) * len(energy)))).values]


def _noise_fraction(centred: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The way to components with unit variance, best signal first, and the way back, each (bin, bin)."""
    values, vectors = torch.linalg.eigh(noise.T @ noise / len(noise))
    scale = (values.clamp_min(0.0) + NOISE_FLOOR * values.mean() + 1e-12).sqrt()
    quiet = centred @ (vectors / scale)
    signal, axes = torch.linalg.eigh(quiet.T @ quiet / len(quiet))
    signal, axes = signal.flip(0).clamp_min(1e-12).sqrt(), axes.flip(1)
    forward = (vectors / scale) @ axes
    sign = torch.sign(forward.gather(0, forward.abs().argmax(dim=0, keepdim=True)))  # the solver's own is arbitrary
    back = (forward * sign).inverse() * signal[:, None]
    return forward * sign / signal, back
