"""Making a task of a model directory: its class, its weights, and what they were measured to take."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshwork.devices import physical
from meshwork.serving import memory
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.custom import custom_task
from meshwork.serving.lane import AnyTask

_WEIGHTS = ("*.safetensors", "*.onnx", "*.pt2", "*.pt", "*.ts", "*.bin")
_WIDTHS = {"float32": 1.0, "bfloat16": 0.5, "float16": 0.5}  # beside weights stored as float32


COMMON_TASKS = {"tensors": "meshwork.serving.tensor_task:TensorTask"}
"""Tasks that every service has beside its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """A task that is warm, and the memory that it took."""

    task: AnyTask
    weight_bytes: int
    workspace_bytes: int  # what its warm-up needed beyond the weights


def task_class(task: str, tasks: Mapping[str, str], directory: ModelDirectory | None) -> type[AnyTask]:
    """The class that runs a card's `task`: one of the service's, or the operator's own.

    Raises:
        CardError: there is no such class, or it is no task.
    """
    target = tasks.get(task)
    if target is None and ":" in task and directory is not None:
        return custom_task(task, directory)
    if target is None:
        where = directory.source if directory else task
        raise CardError(f"{where}: no task {task!r}; there are: {', '.join(sorted(tasks))}")
    module, _, name = target.partition(":")
    kind: Any = getattr(importlib.import_module(module), name)
    return kind  # type: ignore[no-any-return]


def estimate_bytes(directory: ModelDirectory) -> int:
    """What a model's weights will about take on a device, told from its files."""
    folder = directory.weights_folder
    if directory.only:
        return (folder / directory.only).stat().st_size
    for pattern in _WEIGHTS:
        sizes = [file.stat().st_size for file in folder.glob(pattern)]
        if sizes:
            return int(sum(sizes) * _WIDTHS.get(directory.card.precision, 1.0))
    return 0


def _module_bytes(task: AnyTask) -> int:
    """Bytes of the parameters and buffers of the torch modules that a task holds."""
    if "torch" not in sys.modules:
        return 0
    import torch

    modules = [held for held in vars(task).values() if isinstance(held, torch.nn.Module)]
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def build(kind: type[AnyTask], directory: ModelDirectory, device: str) -> Built:
    """Loads a model onto `device` and warms it up. Blocks.

    Raises:
        CardError: its files are missing or do not fit.
    """
    before = memory.process_bytes() if physical(device) == "cpu" else 0
    task = kind.load(directory, device)
    weights = task.memory_bytes() or _module_bytes(task)
    if not weights and before:
        weights = max(0, memory.process_bytes() - before)
    peak = memory.Peak(physical(device))
    task.warm_up()
    return Built(task=task, weight_bytes=weights, workspace_bytes=peak.bytes())
