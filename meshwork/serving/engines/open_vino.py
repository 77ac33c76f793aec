"""OpenVINO's own runtime: the fastest on most CPUs, and the way to Intel's GPUs and NPUs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meshwork.serving.card import CardError
from meshwork.serving.engines.engine import Array, Arrays, TensorSpec, Verdict, check_inputs, threads

_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_CAPABILITIES = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}
_DTYPES = {"f32": "float32", "f64": "float64", "f16": "float16", "boolean": "bool"} | {
    f"{letter}{bits}": f"{name}{bits}"
    for letter, name in (("i", "int"), ("u", "uint"))
    for bits in (8, 16, 32, 64)
}


class OpenVinoEngine:
    """An ONNX file in OpenVINO.

    Args:
        file: the network.
        device: `cpu`: OpenVINO runs on the CPU, or on what `providers` names.
        precision: `float32`, or `bfloat16` or `float16` where the device has it.
        providers: of these it reads `OpenVINO:device_type=GPU` (or `NPU`, ...).
        inputs: what the network is to take; as the file says if None.
        outputs: what it is to give; as the file says if None.

    Raises:
        CardError: OpenVINO or its device is missing, or the file is no network that it can run.
    """

    def __init__(
        self,
        file: Path,
        *,
        device: str,
        precision: str = "float32",
        providers: Sequence[str] = (),
        inputs: tuple[TensorSpec, ...] | None = None,
        outputs: tuple[TensorSpec, ...] | None = None,
    ) -> None:
        try:
            import openvino
        except ImportError as error:
            raise CardError("openvino is not installed: pip install meshwork[openvino]") from error
        core = openvino.Core()
        target = _target(device, providers, core.available_devices)
        if _CAPABILITIES[precision] not in core.get_property(target, "OPTIMIZATION_CAPABILITIES"):
            precision = "float32"
        config = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
        if target == "CPU":
            # Pinned threads of several slots, or replicas, would all be pinned to the same first cores.
            pinning = {"ENABLE_CPU_PINNING": "NO"}
            config |= {"INFERENCE_NUM_THREADS": str(threads()), "NUM_STREAMS": "1", **pinning}
        try:
            compiled: Any = core.compile_model(core.read_model(str(file)), target, config)
            self._request: Any = compiled.create_infer_request()
        except RuntimeError as error:
            raise CardError(f"{file}: openvino cannot run it: {error}") from error
        self.name = f"openvino:{target}"
        self.inputs = inputs or _specs(compiled.inputs, file)
        self.outputs = outputs or _specs(compiled.outputs, file)
        self.verdict: Verdict | None = None
        self._ports = [compiled.output(spec.name) for spec in self.outputs]
        self._bytes = sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*"))

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Runs one batch.

        Raises:
            InvalidArgument: an input is missing, unknown, or of another dtype or shape; names it.
        """
        check_inputs(self.inputs, inputs)
        feed = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        results = self._request.infer(feed, share_inputs=True, share_outputs=True)
        return {
            spec.name: np.array(results[port]) for spec, port in zip(self.outputs, self._ports, strict=True)
        }

    def memory_bytes(self) -> int:
        """Bytes of the weights: as they were read, and again as they were laid out for the processor."""
        return 2 * self._bytes if self._request else 0

    def close(self) -> None:
        """Drops the network."""
        self._request = None
        self._ports = []


def _target(device: str, providers: Sequence[str], available: Sequence[str]) -> str:
    asked = "CPU"
    for entry in providers:
        name, _, options = entry.partition(":")
        if name.strip().lower() == "openvino" and options.startswith("device_type="):
            asked = options.removeprefix("device_type=")
    if asked == "CPU" and not device.startswith("cpu"):
        raise CardError(f"openvino does not run on {device}; name another of its devices in providers")
    if not any(asked in (each, each.partition(".")[0]) for each in available):
        raise CardError(f"providers: openvino finds no device {asked}; it has {', '.join(available)}")
    return asked


def _specs(ports: Sequence[Any], file: Path) -> tuple[TensorSpec, ...]:
    specs = []
    for port in ports:
        kind = port.get_element_type().get_type_name()
        if kind not in _DTYPES:
            raise CardError(
                f"{file}: {port.any_name}: {kind} cannot be served; there are: {', '.join(_DTYPES)}"
            )
        sizes = tuple(size.get_length() if size.is_static else None for size in port.get_partial_shape())
        specs.append(TensorSpec(port.any_name, _DTYPES[kind], sizes))
    return tuple(specs)
