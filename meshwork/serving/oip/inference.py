"""The protocol without its transports: what a replica answers, as plain values and arrays.

What JSON and protobuf both can carry comes as dictionaries with the protocol's field names.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from meshwork.errors import InvalidArgument, MeshworkError, ModelNotFound, Unimplemented
from meshwork.names import version_order
from meshwork.router.v1 import router_pb2
from meshwork.serving.call import Call
from meshwork.serving.engines.engine import Array
from meshwork.serving.loaded import Loaded
from meshwork.serving.models import ModelTable
from meshwork.serving.oip.repository import BACKEND, index
from meshwork.serving.oip.signature import Given, Signature, Tensor
from meshwork.serving.oip.statistics import ModelUse
from meshwork.serving.tensor_task import TensorTask, rows
from meshwork.type.v1 import served_by_pb2


@dataclass(frozen=True, slots=True)
class Inferred:
    """An answer."""

    outputs: dict[str, Array]  # those wanted, in order
    served_by: served_by_pb2.ServedBy

    def parameters(self) -> dict[str, str | int]:
        """Who answered and how long it took, as the protocol's parameters."""
        served = self.served_by
        return {
            "replica": served.replica,
            "queue_us": served.queue_time.ToMicroseconds(),
            "compute_us": served.compute_time.ToMicroseconds(),
            "batch_size": served.batch_size,
        }


class Inference:
    """A replica's models as the protocol sees them.

    Args:
        service: the replica's service, for example `vision`.
        full_name: of its typed service, to which callers of models without tensors are sent.
        models: its models.
    """

    def __init__(self, service: str, full_name: str, models: ModelTable) -> None:
        self._service = service
        self._full_name = full_name
        self._models = models
        self.draining = False  # a replica that drains answers, and says that it is not ready
        self._uses: dict[str, ModelUse] = {}  # by name@version
        self._signatures: WeakKeyDictionary[TensorTask, Signature] = WeakKeyDictionary()

    def name(self, name: str, version: str, *, field: str) -> str:
        """`NAME` or `NAME@VERSION` for a request's name and version.

        Raises:
            InvalidArgument: there is no name.
        """
        if not name:
            raise InvalidArgument("should name a model", field=field)
        name = name.removeprefix(f"{self._service}/")
        return f"{name}@{version}" if version else name

    @property
    def ready(self) -> bool:
        """Whether a model is ready, or will be for its first caller."""
        able = (router_pb2.MODEL_STATE_READY, router_pb2.MODEL_STATE_UNLOADED)
        return not self.draining and any(model.state in able for model in self._models.describe())

    def model_ready(self, model: str) -> bool:
        """Whether the model is ready; one that does not exist is not."""
        return any(
            model in (each.name, f"{each.name}@{each.version}")
            for each in self._models.describe()
            if each.state == router_pb2.MODEL_STATE_READY
        )

    def index(self, *, ready: bool) -> list[dict[str, str]]:
        """The models: RepositoryIndex."""
        return index(self._models.describe(), ready=ready)

    async def infer(
        self, model: str, given: Iterable[Given], outputs: Sequence[str], call: Call, *, large: bool
    ) -> Inferred:
        """Runs a model on a request's tensors, batched with other callers'.

        Args:
            outputs: names of those wanted; empty for all.
            large: whether to read the tensors on another thread.

        Raises:
            MeshworkError: of the request, of admission, or of the model.
        """
        async with self._models.using(model, call) as loaded:
            raw = self._raw(loaded)
            use = self._uses.setdefault(loaded.card.id, ModelUse())
            signature = self._signature(raw)
            began = time.monotonic()
            try:
                wanted = signature.wanted(outputs)
                read = partial(signature.read, given)
                arrays = await asyncio.to_thread(read) if large else read()
                (outcome,) = await raw.items([arrays], call)
                if isinstance(outcome, Exception):
                    raise outcome
            except MeshworkError:
                use.failure(time.monotonic() - began)
                raise
            made, done = outcome
            served_by = raw.served_by([done])
            use.success(rows(arrays) if signature.batched else 1, time.monotonic() - began, served_by)
            return Inferred({name: made[name] for name in wanted}, served_by)

    def _raw(self, loaded: Loaded[Any]) -> Loaded[TensorTask]:
        raw = loaded.tensors
        if raw is None:
            methods = ", ".join(loaded.card.methods or loaded.task.methods)
            raise Unimplemented(
                f"{loaded.card.id} has no tensors to run by themselves; call {methods} of {self._full_name}",
                metadata={"model": loaded.card.id, "methods": methods, "service": self._full_name},
            )
        return raw

    def _signature(self, raw: Loaded[TensorTask]) -> Signature:
        found = self._signatures.get(raw.task)
        if found is None:
            found = self._signatures[raw.task] = Signature(raw.task.tensors)
        return found

    async def metadata(self, model: str, call: Call) -> dict[str, Any]:
        """What a model takes and gives: ModelMetadata."""
        async with self._models.using(model, call) as loaded:
            signature = self._signature(loaded.tensors) if loaded.tensors else None
            versions = [each.version for each in self._models.describe() if each.name == loaded.card.name]
            return {
                "name": loaded.card.name,
                "versions": sorted(versions, key=version_order),
                "platform": signature.platform if signature else BACKEND,
                "inputs": [_metadata(each) for each in signature.inputs.values()] if signature else [],
                "outputs": [_metadata(each) for each in signature.outputs.values()] if signature else [],
            }

    async def configuration(self, model: str, call: Call) -> dict[str, Any]:
        """A model's configuration in Triton's words: ModelConfig."""
        async with self._models.using(model, call) as loaded:
            signature = self._signature(self._raw(loaded))
            return {
                "name": loaded.card.name,
                "platform": signature.platform,
                "backend": BACKEND,
                "max_batch_size": loaded.task.max_batch_items if signature.batched else 0,
                "input": [_configuration(each, signature) for each in signature.inputs.values()],
                "output": [_configuration(each, signature) for each in signature.outputs.values()],
                "dynamic_batching": {},
            }

    def statistics(self, model: str) -> list[dict[str, Any]]:
        """How models were used: ModelStatistics. "" is all of them.

        Raises:
            ModelNotFound: there is no such model.
        """
        ids = [(each.card.name, each.card.version, each.card.id) for each in self._models.entries]
        found = [each for each in ids if model in ("", each[0], each[2])]
        if model and not found:
            raise ModelNotFound.among(model, self._service, [each[2] for each in ids])
        return [
            self._uses.get(identity, ModelUse()).describe(name, version) for name, version, identity in found
        ]

    async def load(self, model: str) -> None:
        """Loads a model that this replica knows.

        Raises:
            ModelNotFound: it knows none of that name.
            FailedPrecondition: it cannot be loaded.
        """
        await self._models.load(model)

    async def unload(self, model: str) -> None:
        """Takes a model out of memory; a later call loads it again.

        Raises:
            ModelNotFound: there is no such model.
        """
        await self._models.unload(model)


def within(call: Call, timeout_us: Any) -> Call:
    """`call` with the request's own `timeout`, microseconds; None or 0 if it has none.

    Raises:
        InvalidArgument: it is no such number.
    """
    if not timeout_us:
        return call
    if not isinstance(timeout_us, int) or timeout_us < 0:
        raise InvalidArgument(f"should be microseconds, not {timeout_us!r}", field="parameters.timeout")
    return replace(call, deadline=min(call.deadline, time.monotonic() + timeout_us / 1e6))


def _metadata(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype.name, "shape": list(tensor.shape)}


def _configuration(tensor: Tensor, signature: Signature) -> dict[str, Any]:
    dims = tensor.shape[1:] if signature.batched else tensor.shape  # without the batch's axis
    name = "STRING" if tensor.datatype.name == "BYTES" else tensor.datatype.name
    return {"name": tensor.name, "data_type": f"TYPE_{name}", "dims": list(dims)}
