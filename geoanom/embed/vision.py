"""Any torchvision classification model as a backbone, cut at its last feature map."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from geoanom.embed.backbones import PooledBackbone
from geoanom.embed.head_kinds import build_head
from geoanom.embed.statistics import N_STATISTICS
from geoanom.embed.views import N_VIEWS
from geoanom.embed.weights import fit_stem, load_by_name, read_state
from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geoanom.config import Embed
    from geoanom.embed.autoencoder import FeatureHead

MEAN, STD = 0.449, 0.226
"""ImageNet's statistics, averaged over red, green and blue, because bands are not colours."""
N_STAGES = 3
"""Feature maps used: the last one of each of the finest resolutions from a quarter downwards."""
PROBE_PX = 128
COARSEST_FIRST_STEP = 8
"""Networks whose finest feature map is coarser than this many pixels see too little of small things."""
NOT_FEATURES = {"avgpool", "classifier"}
"""Parts of torchvision's networks that belong to ImageNet's classes."""


class Vision(PooledBackbone):
    """Window means of a torchvision model's intermediate feature maps."""

    mean, std = MEAN, STD

    def __init__(self, settings: Embed, n_bands: int, tile_size: int) -> None:
        """Build the network, adapt its first convolution to the bands and find its feature maps."""
        super().__init__(tile_size, settings.zoom)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that old models will start from other random weights one day
            net = models.get_model(settings.backbone, weights=None)
        _load_weights(net, settings)
        _adapt_stem(net, n_bands)
        self.stages = _stages(net, n_bands)
        self.net = create_feature_extractor(net, {name: name for name in self.stages}, suppress_diff_warning=True).eval()
        with torch.inference_mode():
            probe = self.net(torch.zeros(1, n_bands, PROBE_PX, PROBE_PX))
        self.n_features = (N_STATISTICS + N_VIEWS * sum(maps.shape[1] for maps in probe.values()),)

    def maps(self, images: Tensor, view: int) -> list[Tensor]:  # noqa: ARG002 - both views alike
        """The stages' maps."""
        found = self.net(images)
        return [found[name] for name in self.stages]

    def autoencoder(self, settings: Embed) -> FeatureHead:
        """A head of the features."""
        return build_head(settings, self.n_features[0])


def build(settings: Embed, n_bands: int, tile_size: int) -> Vision:
    """Build the torchvision model that `settings.backbone` names."""
    return Vision(settings, n_bands, tile_size)


def model_names() -> list[str]:
    """Names of torchvision's classification models."""
    return list(models.list_models(module=models))


def _load_weights(net: nn.Module, settings: Embed) -> None:
    if settings.weights == "none":
        return
    if settings.weights == "package":
        wrong = f"no package carries weights of {settings.backbone}"
        raise ConfigError("embed.weights", wrong, "use download, none or the path of a state dict")
    if settings.weights == "download":
        load_by_name(net, _download(settings.backbone), settings.backbone)
        return
    load_by_name(net, read_state(Path(settings.weights)), settings.weights)


def _download(name: str) -> dict[str, Tensor]:
    weights = models.get_model_weights(name).DEFAULT
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except OSError as error:
        wrong = f"weights of {name} could not be downloaded ({error})"
        raise ConfigError("embed.weights", wrong, "download them elsewhere and give their path") from error


def _adapt_stem(net: nn.Module, n_bands: int) -> None:
    """Replace the first convolution by one that takes `n_bands` bands."""
    name, stem = next((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d))
    weight = fit_stem(stem.weight.detach(), n_bands)
    fresh = nn.Conv2d(
        n_bands,
        stem.out_channels,
        stem.kernel_size,  # type: ignore[arg-type]  # torch types the attribute more loosely than the argument
        stem.stride,  # type: ignore[arg-type]
        stem.padding,  # type: ignore[arg-type]
        bias=stem.bias is not None,
    )
    fresh.weight = nn.Parameter(weight)
    if stem.bias is not None:
        fresh.bias = nn.Parameter(stem.bias.detach())
    parent, _, leaf = name.rpartition(".")
    setattr(net.get_submodule(parent), leaf, fresh)


def _stages(net: nn.Module, n_bands: int) -> list[str]:
    """Names of the last modules of the middle resolutions, from fine to coarse, found by a trial run."""
    last: dict[int, str] = {}

    def note(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and 1 < output.shape[-1] <= PROBE_PX // 4:
            last[output.shape[-1]] = name

    hooks = [module.register_forward_hook(lambda _m, _i, output, name=name: note(name, output)) for name, module in _steps(net)]
    try:
        with torch.inference_mode():
            net.eval()(torch.zeros(1, n_bands, PROBE_PX, PROBE_PX))
    except (RuntimeError, AssertionError) as error:
        raise ConfigError("embed.backbone", f"cannot take images of any size ({error})", "choose a convolutional network") from error
    finally:
        for hook in hooks:
            hook.remove()
    sides = sorted(last, reverse=True)[:N_STAGES]
    if not sides or sides[0] < PROBE_PX // (COARSEST_FIRST_STEP + 1):
        raise ConfigError("embed.backbone", "has no feature maps that could be used", "choose a convolutional network")
    return [last[side] for side in sides]


def _steps(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """A network's parts that follow one upon the other, with their names: its children, and theirs where those are a sequence."""
    for name, child in net.named_children():
        if name in NOT_FEATURES:
            continue
        if isinstance(child, nn.Sequential):
            yield from ((f"{name}.{inner}", module) for inner, module in child.named_children())
        yield name, child
