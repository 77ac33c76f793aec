"""onnxruntime, with any of its execution providers.

Providers are named as in a card or in mesh.yaml, most wanted first, options behind a colon ::

    providers: [TensorRT:trt_fp16_enable=1, CUDA, CPU]

What a provider cannot run falls to the next; the CPU is always the last.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meshwork.serving.card import CardError
from meshwork.serving.engines.engine import Array, Arrays, TensorSpec, Verdict, check_inputs, threads

_CPU = "CPUExecutionProvider"
# Short name -> onnxruntime's name, and the package whose build of onnxruntime has it.
_PROVIDERS = {
    "cpu": (_CPU, "onnxruntime"),
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "tensorrt": ("TensorrtExecutionProvider", "onnxruntime-gpu, and TensorRT"),
    "openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    "vitisai": ("VitisAIExecutionProvider", "the onnxruntime of AMD's Vitis AI or Ryzen AI software"),
    "migraphx": ("MIGraphXExecutionProvider", "onnxruntime-migraphx, from AMD's ROCm"),
    "directml": ("DmlExecutionProvider", "onnxruntime-directml"),
    "coreml": ("CoreMLExecutionProvider", "onnxruntime on macOS"),
    "qnn": ("QNNExecutionProvider", "onnxruntime-qnn"),
    "webgpu": ("WebGpuExecutionProvider", "onnxruntime-webgpu"),
    "cann": ("CANNExecutionProvider", "onnxruntime-cann"),
}
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class OnnxRuntimeEngine:
    """An ONNX file in onnxruntime.

    Args:
        file: the network.
        device: `cpu`, `cuda:0`, ...: what providers run on where they have a choice.
        providers: most wanted first; empty for the device's own.
        inputs: what the network is to take; as the file says if None.
        outputs: what it is to give; as the file says if None.

    Raises:
        CardError: onnxruntime or a provider is missing, or the file is no network that it can run.
    """

    def __init__(
        self,
        file: Path,
        *,
        device: str,
        providers: Sequence[str] = (),
        inputs: tuple[TensorSpec, ...] | None = None,
        outputs: tuple[TensorSpec, ...] | None = None,
    ) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise CardError("onnxruntime is not installed: pip install meshwork[onnxruntime]") from error
        wanted = _resolved(providers, device, onnxruntime.get_available_providers())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads()
        options.log_severity_level = 3  # errors: it warns of every node that stays on the CPU
        # A thread that spins for work takes the core from the event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(str(file), options, providers=wanted)
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise CardError(f"{file}: onnxruntime cannot run it: {error}") from error
        running = self._session.get_providers()
        if running[0] != wanted[0][0]:
            raise CardError(
                f"onnxruntime has {wanted[0][0]} but could not start it; it would run on {running[0]}: "
                "are the libraries that it needs installed?"
            )
        self.name = f"onnxruntime:{running[0].removesuffix('ExecutionProvider')}"
        self.inputs = inputs or _specs(self._session.get_inputs(), file)
        self.outputs = outputs or _specs(self._session.get_outputs(), file)
        self.verdict: Verdict | None = None
        self._names = [spec.name for spec in self.outputs]
        self._bytes = sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*"))

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Runs one batch.

        Raises:
            InvalidArgument: an input is missing, unknown, or of another dtype or shape; names it.
        """
        check_inputs(self.inputs, inputs)
        feed = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        return dict(zip(self._names, self._session.run(self._names, feed), strict=True))

    def memory_bytes(self) -> int:
        """Bytes of the network's file, which are its weights."""
        return self._bytes if self._session else 0

    def close(self) -> None:
        """Drops the session."""
        self._session = None


def _resolved(
    providers: Sequence[str], device: str, available: Sequence[str]
) -> list[tuple[str, dict[str, str]]]:
    """Providers as onnxruntime takes them, the CPU last."""
    kind, _, index = device.partition(":")
    found: dict[str, dict[str, str]] = {}
    for entry in providers or (["CUDA"] if kind == "cuda" else ["CPU"]):
        name, _, given = entry.partition(":")
        short = name.strip().removesuffix("ExecutionProvider").lower()
        if short not in _PROVIDERS:
            raise CardError(f"providers: {name!r} is unknown; there are: {', '.join(_PROVIDERS)}")
        full, package = _PROVIDERS[short]
        if full not in available:
            version = importlib.metadata.version("onnxruntime") if _has("onnxruntime") else "here"
            raise CardError(
                f"providers: onnxruntime {version} has no {full} (it has {', '.join(available)}); "
                f"install {package} in its place"
            )
        options = dict(part.strip().split("=", 1) for part in given.split(",") if "=" in part)
        if short in ("cuda", "tensorrt"):
            options.setdefault("device_id", index or "0")
        found[full] = options
    found.setdefault(_CPU, {})
    return list(found.items())


def _has(package: str) -> bool:
    try:
        return bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False


def _specs(nodes: Sequence[Any], file: Path) -> tuple[TensorSpec, ...]:
    for node in nodes:
        if node.type not in _DTYPES:
            raise CardError(
                f"{file}: {node.name}: {node.type} cannot be served; there are: {', '.join(_DTYPES)}"
            )
    return tuple(
        TensorSpec(
            node.name,
            _DTYPES[node.type],
            tuple(size if isinstance(size, int) and size > 0 else None for size in node.shape or ()),
        )
        for node in nodes
    )
