"""The models of a replica: loading them, finding the one a request means, running inputs through it."""

from __future__ import annotations

import asyncio
import importlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

import psutil

from meshwork.errors import FailedPrecondition, InvalidArgument, ModelNotFound
from meshwork.names import version_order
from meshwork.router.v1 import router_pb2
from meshwork.serving.batcher import AnyTask, Device, Done, Lane
from meshwork.serving.card import CardError, ModelCard, ModelDirectory, open_directory
from meshwork.serving.load import LoadMeter
from meshwork.serving.task import In, Out, Task
from meshwork.serving.threads import contained
from meshwork.type.v1 import served_by_pb2

log = logging.getLogger(__name__)

K = TypeVar("K", bound=AnyTask, covariant=True)


class CallContext(Protocol):
    """What a call's context must tell: `grpc.aio.ServicerContext` does."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline, None without one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """A model that a replica is told to serve."""

    source: str  # `starter://NAME` or the path of a model directory
    default: bool = False  # answers callers who name no model, before the others do
    device: str = ""  # "" for the replica's


@dataclass(frozen=True, slots=True)
class Loaded(Generic[K]):
    """A model that is ready."""

    task: K
    card: ModelCard
    replica: str
    lane: Lane
    device: Device

    def served_by(self, items: Iterable[Done] = ()) -> served_by_pb2.ServedBy:
        """Says that this model answered, with the times of `items` if the device took part."""
        done = list(items)
        served = served_by_pb2.ServedBy(
            model=self.card.name, version=self.card.version, replica=self.replica, batch_size=1
        )
        if done:
            # Items of one batch share its time to the last digit.
            served.queue_time.FromNanoseconds(int(max(item.queue_s for item in done) * 1e9))
            served.compute_time.FromNanoseconds(int(math.fsum({item.compute_s for item in done}) * 1e9))
            served.batch_size = max(item.batch_size for item in done)
        return served


@dataclass(frozen=True, slots=True)
class Answer(Generic[Out]):
    """The outputs for a request's inputs, in order, and what made them."""

    outputs: list[Out]
    served_by: served_by_pb2.ServedBy


class ModelTable:
    """Every model of one replica, by name and version.

    Args:
        service: the replica's service, for example `vision`.
        replica: the replica's name.
        tasks: card's `task` -> `module:Class`; imported when a model needs it.
        device: the device for models that name none.
        load: told of device time and queue.
        on_change: called whenever what `describe` says has changed.
    """

    def __init__(
        self,
        service: str,
        replica: str,
        tasks: Mapping[str, str],
        device: str,
        load: LoadMeter,
        *,
        on_change: Callable[[], None] = lambda: None,
        cpu_threads: int = 2,
    ) -> None:
        self._service = service
        self._replica = replica
        self._tasks = tasks
        self._default_device = device
        self._load = load
        self._on_change = on_change
        self._cpu = ThreadPoolExecutor(cpu_threads, thread_name_prefix="cpu")
        self._devices: dict[str, Device] = {}
        self._runs: list[asyncio.Task[None]] = []
        self._loaded: dict[str, Loaded[AnyTask]] = {}  # by name@version, in the order of the config
        self._defaults: dict[str, str] = {}  # method -> name@version
        self._described: dict[str, router_pb2.Model] = {}

    def describe(self) -> list[router_pb2.Model]:
        """The models as a lease shows them, those loading and failed included."""
        return list(self._described.values())

    async def load(self, config: ModelConfig) -> None:
        """Loads and warms up one model; a failure is logged and described, not raised."""
        if config.source in self._described:
            log.warning("%s is listed more than once", config.source)
            return
        described = router_pb2.Model(
            name=config.source.rpartition("/")[2],
            service=self._service,
            source=config.source,
            device=config.device or self._default_device,
            state=router_pb2.MODEL_STATE_LOADING,
        )
        self._described[config.source] = described
        try:
            directory = open_directory(config.source, self._service)
            if directory.card.id in self._loaded:
                raise CardError(
                    f"{directory.source}: another model of this replica is {directory.card.id} too"
                )
            _describe_card(described, directory.card)
            self._on_change()
            began, before = time.monotonic(), memory_bytes()
            loop = asyncio.get_running_loop()
            task = await loop.run_in_executor(self._cpu, contained, self._build, directory, described.device)
            described.memory_bytes = max(0, memory_bytes() - before)
        except Exception as error:
            described.state = router_pb2.MODEL_STATE_FAILED
            described.error = (
                str(error) if isinstance(error, CardError) else f"{type(error).__name__}: {error}"
            )
            log.error(
                "cannot load %s: %s",
                config.source,
                described.error,
                exc_info=not isinstance(error, CardError),
            )
            self._on_change()
            return
        card = directory.card
        lane = Lane(task)
        device = self._device(described.device if task.shares_device else card.id)
        device.add(lane)
        self._loaded[card.id] = Loaded(task, card, self._replica, lane, device)
        for method in card.methods:
            if config.default or method not in self._defaults:
                self._set_default(method, card.id)
        described.state = router_pb2.MODEL_STATE_READY
        log.info("loaded %s on %s in %.1f s", card.id, described.device, time.monotonic() - began)
        self._on_change()

    def _build(self, directory: ModelDirectory, device: str) -> AnyTask:
        target = self._tasks.get(directory.card.task)
        if target is None:
            known = ", ".join(sorted(self._tasks))
            raise CardError(
                f"{directory.source}: no task {directory.card.task!r}; {self._service} has: {known}"
            )
        module, _, name = target.partition(":")
        kind: type[AnyTask] = getattr(importlib.import_module(module), name)
        task = kind.load(directory, device)
        task.warm_up()
        return task

    def _device(self, name: str) -> Device:
        if name not in self._devices:
            device = self._devices[name] = Device(name, self._load)
            self._runs.append(asyncio.create_task(device.run(), name=f"device {name}"))
        return self._devices[name]

    def _set_default(self, method: str, model: str) -> None:
        self._defaults[method] = model
        for described in self._described.values():
            identity = f"{described.name}@{described.version}"
            methods = [name for name, default in self._defaults.items() if default == identity]
            described.default_methods[:] = methods

    def get(self, kind: type[K], method: str, model: str) -> Loaded[K]:
        """The model that a request means.

        Args:
            kind: the task class that the method needs.
            method: the rpc's name, for example `Classify`.
            model: the request's `model`: "", `name` or `name@version`.

        Raises:
            ModelNotFound: this replica has no such model.
            InvalidArgument: it has, but the model does not answer this method.
        """
        able = [cast(Loaded[K], each) for each in self._loaded.values() if isinstance(each.task, kind)]
        if not model:
            wanted = self._defaults.get(method, "")
            found = [loaded for loaded in able if loaded.card.id == wanted]
            if not found:
                raise FailedPrecondition(f"service {self._service} has no model that answers {method}")
            return found[0]
        if not any(model in (each.card.id, each.card.name) for each in self._loaded.values()):
            raise ModelNotFound.among(model, self._service, list(self._loaded))
        able = [loaded for loaded in able if method in loaded.card.methods]
        answering = [loaded for loaded in able if model in (loaded.card.id, loaded.card.name)]
        if not answering:
            ids = ", ".join(loaded.card.id for loaded in able)
            raise InvalidArgument(
                f"{model!r} does not answer {method}; these do: {ids or 'none'}", field="model"
            )
        return max(answering, key=lambda loaded: version_order(loaded.card.version))

    async def run(
        self,
        kind: type[Task[In, Any, Any, Out]],
        method: str,
        model: str,
        inputs: Sequence[In],
        context: CallContext,
    ) -> Answer[Out]:
        """Runs a request's inputs through the model that it means, batched with other callers'.

        Raises:
            MeshworkError: of the first input that fails, or of admission.
        """
        loaded = self.get(kind, method, model)
        remaining = context.time_remaining()
        deadline = math.inf if remaining is None else time.monotonic() + remaining
        if len(inputs) == 1:
            out, done = await self._one(loaded, inputs[0], deadline)
            return Answer([out], loaded.served_by([done]))
        async with asyncio.TaskGroup() as group:
            items = [group.create_task(_captured(self._one(loaded, entry, deadline))) for entry in inputs]
        outcomes = [item.result() for item in items]
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        pairs: list[tuple[Out, Done]] = [
            outcome for outcome in outcomes if not isinstance(outcome, Exception)
        ]
        return Answer([out for out, _ in pairs], loaded.served_by(item for _, item in pairs))

    async def _one(
        self, loaded: Loaded[Task[In, Any, Any, Out]], entry: In, deadline: float
    ) -> tuple[Out, Done]:
        loop = asyncio.get_running_loop()
        with loaded.device.preparing(deadline):
            prepared = await loop.run_in_executor(self._cpu, contained, loaded.task.preprocess, entry)
        done = await loaded.device.submit(loaded.lane, prepared, deadline)
        out = await loop.run_in_executor(self._cpu, contained, loaded.task.postprocess, prepared, done.raw)
        return out, done

    async def close(self) -> None:
        """Stops the devices and closes the models; does not wait for a forward pass that still runs."""
        for run in self._runs:
            run.cancel()
        await asyncio.gather(*self._runs, return_exceptions=True)
        for device in self._devices.values():
            device.thread.shutdown(wait=False, cancel_futures=True)
        self._cpu.shutdown(wait=False, cancel_futures=True)
        for loaded in self._loaded.values():
            loaded.task.close()


async def _captured(work: Any) -> Any:
    """The result of `work`, or the exception it ended with, so that siblings are not cancelled."""
    try:
        return await work
    except Exception as error:
        return error


def memory_bytes() -> int:
    """Memory of this process and of those that it started, shared pages counted once where known."""
    me = psutil.Process()
    total = 0
    for process in (me, *me.children(recursive=True)):
        try:
            info = process.memory_full_info()
        except psutil.Error:
            continue  # it ended meanwhile
        total += getattr(info, "pss", 0) or info.rss
    return total


def _describe_card(described: router_pb2.Model, card: ModelCard) -> None:
    described.name = card.name
    described.version = card.version
    described.methods[:] = card.methods
    described.licence = card.licence
    described.description = card.description
    described.limits[:] = card.limits
    for entry in card.quality:
        described.quality.add(metric=entry.metric, value=entry.value, dataset=entry.dataset)
