"""Which device computes."""

from __future__ import annotations

import torch

from geoanom.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """The device of a name: auto, cpu or cuda.

    Raises:
        ConfigError: cuda is asked for and not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("runtime.device", "no CUDA device is available", "use --device cpu or --device auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # fp32 is to mean fp32: models move between machines
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """The device in words."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
