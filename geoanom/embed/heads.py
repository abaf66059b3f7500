"""Weights as bytes: backbones, and head files, which are fitted autoencoders with a note of what they fit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch

from geoanom.embed.head_kinds import kind_of
from geoanom.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from geoanom.config import Embed
    from geoanom.embed.backbones import Autoencoder, Backbone

POSSIBLE_HEADS = (1, 2)
BEFORE_KINDS = {"batch_norm": False, "fine_tuned": False, "kind": "autoencoder", "whiten": False}
"""What head files are that say nothing of it: they come from before there was a choice."""
REMEDY = "name the head.safetensors of a model"


def backbone_bytes(backbone: Backbone) -> bytes:
    """A backbone's weights as the content of a safetensors file."""
    return safetensors.torch.save(_state(backbone))


def load_backbone(backbone: Backbone, content: bytes) -> None:
    """Put weights that `backbone_bytes` made into a backbone of the same settings."""
    backbone.load_state_dict(safetensors.torch.load(content))


def head_bytes(heads: Sequence[Autoencoder], backbone: Backbone, settings: Embed) -> bytes:
    """The heads as the content of a head file."""
    tensors = {f"{i}.{name}": tensor for i, head in enumerate(heads) for name, tensor in _state(head).items()}
    note = json.dumps(_note(len(heads), backbone, settings), sort_keys=True)
    return safetensors.torch.save(tensors, {"geoanom": note})


def load_heads(path: Path, backbone: Backbone, settings: Embed) -> tuple[Autoencoder, ...]:
    """Read a head file for a backbone.

    Raises:
        ModelError: it is no head file, or was made for another backbone, band number or dimension.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {}).get("geoanom", "null"))
        tensors = safetensors.torch.load_file(path)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise ModelError(path, f"is not a head file ({error})", REMEDY) from error
    if not isinstance(note, dict) or note.get("heads") not in POSSIBLE_HEADS:
        raise ModelError(path, "is not a head file (it says nothing of its heads)", REMEDY)
    for key, value in _note(note["heads"], backbone, settings).items():
        told = note.get(key, BEFORE_KINDS.get(key))
        if told != value:
            raise ModelError(path, f"was made for {key} {told}, not {value}", "fit a head with these settings")
    try:
        return tuple(_one_head(i, tensors, backbone, settings) for i in range(note["heads"]))
    except RuntimeError as error:  # torch's word for tensors that are missing or of another shape
        raise ModelError(path, "its tensors are not those of its heads", "fit it again") from error


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.cpu().contiguous() for name, tensor in module.state_dict().items()}


def _one_head(index: int, tensors: dict[str, Tensor], backbone: Backbone, settings: Embed) -> Autoencoder:
    head = backbone.autoencoder(settings)
    prefix = f"{index}."
    head.load_state_dict({name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)})
    return head.eval().requires_grad_(False)


def _note(n_heads: int, backbone: Backbone, settings: Embed) -> dict[str, Any]:
    return {
        "backbone": settings.backbone,
        "batch_norm": settings.head.batch_norm,
        "dim": settings.dim,
        "features": list(backbone.n_features),
        "fine_tuned": settings.fine_tune.epochs > 0,
        "heads": n_heads,
        "hidden": list(settings.head.hidden),
        "kind": kind_of(settings),
        "whiten": settings.head.whiten,
    }
