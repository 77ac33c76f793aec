"""Bringing arrays to a torch device and back.

On CUDA every model of a device works on one stream of that device, not the default one, so that its
work does not wait for another library's; inputs are copied from pinned memory without holding the
thread, outputs into pinned memory, and one wait for the stream ends the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch

from meshwork.devices import torch_device
from meshwork.serving.card import CardError
from meshwork.serving.engines.engine import Array


class Placement:
    """A torch device, and how arrays come to it; this one is the CPU.

    Attributes:
        device: as torch knows it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Surrounds the work of one batch."""
        with torch.inference_mode():
            yield

    def put(self, array: Array) -> torch.Tensor:
        """The array on the device; on the CPU it shares the array's memory where torch can."""
        # torch can only share what may be written to and what has no negative strides.
        if not array.flags.writeable or any(step < 0 for step in array.strides):
            array = array.copy()
        return torch.from_numpy(array)

    def fetch(self, tensors: Sequence[torch.Tensor]) -> list[Array]:
        """The tensors as arrays that belong to the caller."""
        return [tensor.numpy() for tensor in tensors]

    def settle(self) -> None:
        """Waits for what was put on the device outside a batch: weights, mostly."""

    def holds(self, precision: str) -> bool:
        """Whether the device computes in `precision` (`float32`, `bfloat16`, `float16`) fast."""
        if precision == "bfloat16":
            return bool(torch.backends.mkldnn.enabled and torch.ops.mkldnn._is_mkldnn_bf16_supported())
        return precision == "float32"


class CudaPlacement(Placement):
    """A CUDA device."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Surrounds the work of one batch: all of it goes to this device's stream."""
        with torch.inference_mode(), torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            yield

    def put(self, array: Array) -> torch.Tensor:
        """The array on the device; the copy is queued, not waited for."""
        # The caching host allocator keeps the pinned block until the stream has read it.
        return super().put(array).pin_memory().to(self.device, non_blocking=True)

    def fetch(self, tensors: Sequence[torch.Tensor]) -> list[Array]:
        """The tensors as arrays, once the stream has done all that was queued."""
        hosts = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
        for host, tensor in zip(hosts, tensors, strict=True):
            host.copy_(tensor, non_blocking=True)
        self._stream.synchronize()
        # Copied out of the pinned memory, which is scarce and goes to the next batch.
        return [np.array(host.numpy()) for host in hosts]

    def settle(self) -> None:
        """Waits for the device, since its stream does not wait for the default one, which loads weights."""
        torch.cuda.synchronize(self.device)

    def holds(self, precision: str) -> bool:
        """Whether the device computes in `precision` fast."""
        if precision == "bfloat16":
            return torch.cuda.get_device_capability(self.device) >= (8, 0)
        return True


@cache
def placement(device: str) -> Placement:
    """The placement of a device by its name: `cpu`, `cpu:1` (a slot of the CPU), `cuda:0`.

    Raises:
        CardError: this torch has no such device.
    """
    try:
        found = torch_device(device)
    except RuntimeError as error:
        raise CardError(f"device {device!r}: torch knows none of that name") from error
    if found.type == "cpu":
        return Placement(found)
    if found.type != "cuda":
        raise CardError(f"device {device!r}: should be cpu, or cuda:N")
    if not torch.cuda.is_available():
        raise CardError(f"device {device!r}: this build of torch ({torch.__version__}) finds no CUDA device")
    if (found.index or 0) >= torch.cuda.device_count():
        raise CardError(f"device {device!r}: there are {torch.cuda.device_count()} CUDA devices, from cuda:0")
    return CudaPlacement(found)
