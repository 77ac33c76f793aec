"""The hash of a network and of the machine that runs it: what a verdict or an export was made from."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import meshwork
from meshwork.serving.engines.cache import digest
from meshwork.serving.engines.engine import TensorSpec, describe, threads

if TYPE_CHECKING:
    from torch import nn

_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "openvino", "transformers")
_PLAIN = (bool, int, float, str, tuple)


def network_hash(network: nn.Module, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> str:
    """A hash of a module's weights, structure, settings and tensors' names and shapes.

    Code that changed while all of these stayed is not seen: whoever uses what was kept checks it.
    """
    import torch

    state = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():
            state.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    settings = [
        f"{name} {type(each).__module__}.{type(each).__qualname__} {_settings(vars(each))}"
        for name, each in network.named_modules()
    ]
    return digest(state.digest(), *settings, describe(inputs), describe(outputs))


def _settings(attributes: Mapping[str, Any]) -> str:
    to_json = getattr(attributes.get("config"), "to_json_string", str)  # of a transformers model
    plain = {name: value for name, value in sorted(attributes.items()) if isinstance(value, _PLAIN)}
    return f"{plain} {to_json()}"


def file_hash(file: Path) -> str:
    """A hash of a file and, where it is ONNX, of the data files beside it."""
    state = hashlib.sha256()
    for part in (file, *sorted(file.parent.glob(f"{file.name}*data"))):
        with part.open("rb") as stream:
            while block := stream.read(1 << 22):
                state.update(block)
    return state.hexdigest()[:32]


def machine(device: str) -> str:
    """The device and the software on it, as far as speed and numbers depend on them."""
    versions = {name: version for name in _PACKAGES if (version := installed(name))}
    chip = _processor()
    if device.startswith("cuda"):
        import torch

        chip = torch.cuda.get_device_name(device)
    return f"{chip} {threads()} threads meshwork {meshwork.__version__} {versions}"


def installed(package: str) -> str:
    """The version of an installed package; "" without it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{named[0] if named else platform.processor()} {platform.machine()}"
