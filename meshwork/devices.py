"""Names of devices: `cpu`, `cuda:0`, and slots of the processor, `cpu:0`, `cpu:1`, a thread each.

A model on `cpu:0,cpu:1` runs in parallel on both, fed from one queue.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_NAME = re.compile(r"cpu(:\d+)?|[a-z]+:\d+")


def parse_devices(text: str) -> tuple[str, ...]:
    """The devices that a comma-separated list names.

    Raises:
        ValueError: one is no device's name, or stands twice.
    """
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no device; write cpu, cpu:0 (a slot of it) or cuda:0")
    if len(set(names)) < len(names):
        raise ValueError(f"{text!r} names a device twice")
    return names


def physical(device: str) -> str:
    """The device whose memory `device` uses: all slots of the processor are `cpu`."""
    return "cpu" if device.startswith("cpu") else device


def torch_device(device: str) -> torch.device:
    """What torch calls `device`."""
    import torch

    return torch.device(physical(device))
