"""The models of a replica: adding, loading and unloading them, and finding the one a request means.

::

    added --load--> LOADING --> READY --unload, evicted--> UNLOADED --a call, load--> LOADING
                       `-----> FAILED

Loads happen one at a time on a thread of their own, so that what is served goes on. A model that does
not fit into its device's memory makes room by evicting the least recently used ones that are idle.
Callers of an unloaded model wait for its load within their deadlines.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from meshwork.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    ModelNotFound,
    Overloaded,
    Unavailable,
)
from meshwork.model_config import ModelConfig
from meshwork.names import version_order
from meshwork.router.v1 import router_pb2
from meshwork.serving import memory, metrics
from meshwork.serving.build import COMMON_TASKS, Built, build, estimate_bytes, task_class
from meshwork.serving.call import Call, CallContext
from meshwork.serving.card import CardError, ModelCard, ModelDirectory
from meshwork.serving.device import BatchSource, Bounds, Device
from meshwork.serving.devices import parse_devices, physical
from meshwork.serving.engines.report import describe_engine
from meshwork.serving.lane import AnyTask, Lane
from meshwork.serving.ledger import Ledger
from meshwork.serving.load import LoadMeter
from meshwork.serving.loaded import K, Loaded, Streamed, Worker
from meshwork.serving.sources import Catalogue, default_name, open_source
from meshwork.serving.streams import StreamSource
from meshwork.serving.task import In, Out, StreamTask, Task
from meshwork.serving.tensor_task import TensorTask
from meshwork.serving.threads import contained
from meshwork.type.v1 import served_by_pb2

log = logging.getLogger(__name__)

T = TypeVar("T")
UNLOAD_S = 30.0  # the longest to wait for calls in flight before a model is taken away
_LOAD_GUESS_S = 5.0  # what a load is taken to need, before one was measured


@dataclass(frozen=True, slots=True)
class Answer(Generic[Out]):
    """The outputs for a request's inputs, in order, and what made them."""

    outputs: list[Out]
    served_by: served_by_pb2.ServedBy


@dataclass(slots=True)
class Entry:
    """One model of the table, in whatever state."""

    config: ModelConfig
    described: router_pb2.Model
    kind: type[AnyTask]
    directory: ModelDirectory
    loaded: Loaded[AnyTask] | None = None
    loading: asyncio.Task[Loaded[AnyTask]] | None = None
    uses: int = 0  # calls that are being answered
    last_used: float = 0.0
    load_s: float = _LOAD_GUESS_S  # what its last load took
    measured_bytes: int = 0  # what it was last seen to take on one device

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self.directory.card


class ModelTable:
    """Every model of one replica, by name and version.

    Args:
        service: the replica's service, for example `vision`.
        replica: the replica's name.
        tasks: card's `task` -> `module:Class`; imported when a model needs it.
        device: the device for models that name none.
        load: told of device time and queue.
        architectures: end of an architecture's name in a Hugging Face config.json -> task.
        on_change: called whenever what `describe` says has changed.
        memory_bytes: what models may fill of each device; 0 for most of what there is.
    """

    def __init__(
        self,
        service: str,
        replica: str,
        tasks: Mapping[str, str],
        device: str,
        load: LoadMeter,
        *,
        architectures: Mapping[str, str] | None = None,
        on_change: Callable[[], None] = lambda: None,
        cpu_threads: int = 2,
        bounds: Bounds | None = None,
        memory_bytes: int = 0,
    ) -> None:
        self._service = service
        self._replica = replica
        self._tasks = tasks = {**COMMON_TASKS, **tasks}
        self._default_device = device
        self._load = load
        self._on_change = on_change
        self._bounds = bounds
        self._memory_bytes = memory_bytes
        self._catalogue = Catalogue(
            service=service,
            tasks=tuple(tasks),
            architectures=architectures or {},
            methods=lambda task: task_class(task, tasks, None).methods,
        )
        self._cpu = ThreadPoolExecutor(cpu_threads, thread_name_prefix="cpu")
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._room = asyncio.Lock()  # one load at a time makes room and takes it
        self._devices: dict[str, Device] = {}
        self._runs: list[asyncio.Task[None]] = []
        self._entries: dict[str, Entry] = {}  # by name@version, in the order of adding
        self._described: dict[tuple[str, str, str], router_pb2.Model] = {}  # by source, name, version
        self._defaults: dict[str, Entry] = {}  # by method
        self._ledgers: dict[str, Ledger] = {}  # by physical device

    def describe(self) -> list[router_pb2.Model]:
        """The models as a lease shows them, those loading and failed included."""
        return list(self._described.values())

    @property
    def entries(self) -> list[Entry]:
        """The models that could be opened, in the order of adding."""
        return list(self._entries.values())

    def knows(self, config: ModelConfig) -> bool:
        """Whether `config` was added, and not removed since."""
        return _key(config) in self._described

    async def add(self, config: ModelConfig) -> None:
        """Adds a model and, unless its first caller is to load it, loads it.

        A failure is logged and described, not raised.
        """
        key = _key(config)
        if key in self._described:
            log.warning("%s is listed more than once", config.source)
            return
        described = self._described[key] = router_pb2.Model(
            name=config.name or default_name(config.source),
            version=config.version,
            service=self._service,
            source=config.source,
            device=config.device or self._default_device,
            state=router_pb2.MODEL_STATE_LOADING,
        )
        try:
            entry = await self._opened(config, described)
        except Exception as error:
            self._failed(described, error)
            return
        self._entries[entry.card.id] = entry
        self._choose_defaults()
        if config.load == "demand":
            self._enter(described, router_pb2.MODEL_STATE_UNLOADED)
            return
        try:
            await self._start(entry)
        except Exception as error:
            log.debug("described as failed: %r", error)

    async def _opened(self, config: ModelConfig, described: router_pb2.Model) -> Entry:
        loop = asyncio.get_running_loop()

        def progress(text: str) -> None:
            loop.call_soon_threadsafe(self._tell, described, text)

        def opened() -> tuple[ModelDirectory, type[AnyTask]]:
            directory = open_source(config, self._catalogue, progress)
            return directory, task_class(directory.card.task, self._tasks, directory)

        directory, kind = await loop.run_in_executor(self._loader, contained, opened)
        if _key(config) not in self._described:
            raise CardError(f"{config.source} was removed while it was fetched")
        if directory.card.id in self._entries:
            raise CardError(f"{directory.source}: another model of this replica is {directory.card.id} too")
        _describe_card(described, directory.card, kind)
        self._tell(described, "")
        return Entry(config, described, kind, directory)

    def _tell(self, described: router_pb2.Model, progress: str) -> None:
        described.progress = progress
        self._on_change()

    def _enter(self, described: router_pb2.Model, state: router_pb2.ModelState.ValueType) -> None:
        described.state = state
        self._on_change()

    def _failed(self, described: router_pb2.Model, error: Exception) -> None:
        known = isinstance(error, CardError)
        described.error = str(error) if known else f"{type(error).__name__}: {error}"
        log.error("cannot load %s: %s", described.source, described.error, exc_info=None if known else error)
        metrics.LOADS.labels(described.name, "failed").inc()
        self._enter(described, router_pb2.MODEL_STATE_FAILED)

    async def load(self, model: str) -> None:
        """Loads a model that was unloaded or that failed; returns once it is ready.

        Raises:
            ModelNotFound: there is no such model.
            FailedPrecondition: it cannot be loaded; says why.
        """
        entry = self._entry(model)
        if entry.loaded is None:
            await self._start(entry)

    async def unload(self, model: str, cause: str = "asked") -> None:
        """Takes a model out of memory once its calls are answered; it stays known, and a call loads it.

        Raises:
            ModelNotFound: there is no such model.
        """
        await self._unloaded(self._entry(model), cause)

    async def _unloaded(self, entry: Entry, cause: str) -> None:
        if entry.loading is not None:
            await asyncio.wait([entry.loading])
        loaded, entry.loaded = entry.loaded, None
        self._enter(entry.described, router_pb2.MODEL_STATE_UNLOADED)
        if loaded is not None:
            tasks = [weakref.ref(worker.task) for worker in loaded.workers]
            await self._take_down(entry, loaded, cause)
            del loaded
            await asyncio.get_running_loop().run_in_executor(self._loader, memory.give_back, tasks)

    async def remove(self, name: str, version: str = "") -> None:
        """Unloads and forgets a model: that version, or all of them; nothing happens if there is none."""
        for key, described in list(self._described.items()):
            if described.name != name or version not in ("", described.version):
                continue
            del self._described[key]
            entry = next((each for each in self._entries.values() if each.described is described), None)
            if entry is not None:
                del self._entries[entry.card.id]
                self._choose_defaults()
                await self._unloaded(entry, "removed")
            self._on_change()

    async def _start(self, entry: Entry) -> Loaded[AnyTask]:
        """Loads an entry, or waits for the load that is under way."""
        if entry.loading is None:
            entry.loading = asyncio.create_task(self._brought_up(entry), name=f"load {entry.card.id}")
            entry.loading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(entry.loading)

    async def _brought_up(self, entry: Entry) -> Loaded[AnyTask]:
        described, card = entry.described, entry.card
        described.error = ""
        if described.state == router_pb2.MODEL_STATE_UNLOADED:
            self._tell(described, "loading")  # its state stays: it takes calls, and they wait
        else:
            self._enter(described, router_pb2.MODEL_STATE_LOADING)
        try:
            async with self._room:
                began = time.monotonic()
                names = parse_devices(described.device)
                for device in dict.fromkeys(map(physical, names)):
                    share = sum(physical(name) == device for name in names)
                    need = entry.measured_bytes or estimate_bytes(entry.directory)
                    await self._make_room(device, entry, need * share)
                loop = asyncio.get_running_loop()
                built = [
                    await loop.run_in_executor(
                        self._loader, contained, build, entry.kind, entry.directory, name
                    )
                    for name in names
                ]
                loaded = entry.loaded = self._connected(entry, names, built)
                for device in dict.fromkeys(map(physical, names)):
                    await self._settle_room(device, entry)
                entry.load_s = time.monotonic() - began
        except Exception as error:
            self._failed(described, error)
            raise FailedPrecondition(f"{card.id} cannot be loaded: {described.error}") from error
        finally:
            entry.loading = None
        log.info("loaded %s on %s in %.1f s", card.id, described.device, entry.load_s)
        metrics.LOADS.labels(card.name, "ready").inc()
        entry.last_used = time.monotonic()
        self._choose_defaults()
        described.progress = ""
        self._enter(described, router_pb2.MODEL_STATE_READY)
        return loaded

    async def _make_room(self, device: str, entry: Entry, need: int) -> None:
        ledger = self._ledger(device)
        if need > ledger.capacity:
            raise CardError(
                f"{entry.directory.source}: needs about {need >> 20} MB; "
                f"models may fill {ledger.capacity >> 20} MB of {device}"
            )
        while (evicted := ledger.evictions(need, self._idle(entry))) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # until a call that uses one is answered
        await self._evict(evicted, device, entry)

    async def _settle_room(self, device: str, entry: Entry) -> None:
        """Makes room after the fact for what a model turned out to take beyond what its files told."""
        evicted = self._ledger(device).evictions(0, self._idle(entry))
        if evicted is None:
            log.warning("models take more of %s than they may, and all are in use", device)
        await self._evict(evicted or [], device, entry)

    def _idle(self, besides: Entry) -> list[str]:
        """The models that nobody uses, the least recently used first."""
        idle = [
            each for each in self._entries.values() if each.loaded and not each.uses and each is not besides
        ]
        return [each.card.id for each in sorted(idle, key=lambda each: each.last_used)]

    async def _evict(self, models: Sequence[str], device: str, entry: Entry) -> None:
        for model in models:
            log.info("evicting %s from %s to make room for %s", model, device, entry.card.id)
            await self.unload(model, "evicted")

    def _connected(self, entry: Entry, names: Sequence[str], built: Sequence[Built]) -> Loaded[AnyTask]:
        card = entry.card
        lane = Lane(entry.kind.max_batch_items)
        workers = []
        for name, each in zip(names, built, strict=True):
            device = self._device(name if each.task.shares_device else f"{card.id} on {name}")
            source: BatchSource | StreamSource
            if isinstance(each.task, StreamTask):
                source = StreamSource(card.id, each.task, device)
            else:
                source = BatchSource(card.id, each.task, lane, device, len(names))
            device.add(source)
            workers.append(Worker(each.task, name, device, source))
            held = self._ledger(physical(name)).held
            held[card.id] = held.get(card.id, 0) + each.weight_bytes + each.workspace_bytes
            metrics.MEMORY.labels(physical(name), card.id).set(held[card.id])
        entry.measured_bytes = max(each.weight_bytes + each.workspace_bytes for each in built)
        entry.described.memory_bytes = sum(each.weight_bytes + each.workspace_bytes for each in built)
        describe_engine(entry.described, built[0].task.tensors)
        raw = self._as_tensors(entry, workers)
        return Loaded(card, self._replica, lane, tuple(workers), self._cpu, raw)

    def _as_tensors(self, entry: Entry, workers: Sequence[Worker]) -> Loaded[TensorTask] | None:
        """The workers' networks as named tensors, on the same devices; None without that form, or if
        the model is served in no other."""
        lane = Lane(entry.kind.max_batch_items)
        own = []
        for worker in workers:
            engine = worker.task.tensors
            if engine is None or isinstance(worker.task, TensorTask):
                return None
            task = TensorTask(engine)
            source = BatchSource(entry.card.id, task, lane, worker.device, len(workers))
            own.append(Worker(task, worker.on, worker.device, source))
        for worker in own:
            worker.device.add(worker.source)
        return Loaded(entry.card, self._replica, lane, tuple(own), self._cpu)

    async def _take_down(self, entry: Entry, loaded: Loaded[AnyTask], cause: str) -> None:
        """Lets the calls in flight finish, within a bound, and gives the memory back."""
        try:
            async with asyncio.timeout(UNLOAD_S):
                while entry.uses:  # noqa: ASYNC110 - counted on the path of every call, so without an event
                    await asyncio.sleep(0.01)
        except TimeoutError:
            log.warning("%s is unloaded with %d calls in flight", loaded.card.id, entry.uses)
        gone = Unavailable(f"{loaded.card.id} was unloaded")
        loaded.lane.end_all(gone)
        if loaded.raw is not None:
            loaded.raw.lane.end_all(gone)
            for worker in loaded.raw.workers:
                worker.device.remove(worker.source)
        for worker in loaded.workers:
            if isinstance(worker.source, StreamSource):
                worker.source.end_all(gone)
            worker.device.remove(worker.source)
            self._ledger(physical(worker.on)).held.pop(loaded.card.id, None)
            # Behind the batch that may run: the device's thread is its only user.
            await asyncio.get_running_loop().run_in_executor(worker.device.thread, worker.task.close)
            metrics.MEMORY.labels(physical(worker.on), loaded.card.id).set(0)
        metrics.UNLOADS.labels(loaded.card.name, cause).inc()
        entry.described.memory_bytes = 0
        log.info("unloaded %s (%s)", loaded.card.id, cause)

    def _device(self, name: str) -> Device:
        if name not in self._devices:
            device = self._devices[name] = Device(name, self._load, bounds=self._bounds)
            self._runs.append(asyncio.create_task(device.run(), name=f"device {name}"))
        return self._devices[name]

    def _ledger(self, device: str) -> Ledger:
        if device not in self._ledgers:
            self._ledgers[device] = Ledger(self._memory_bytes or memory.capacity_bytes(device))
        return self._ledgers[device]

    def _choose_defaults(self) -> None:
        self._defaults.clear()
        able = [
            each for each in self._entries.values() if each.described.state != router_pb2.MODEL_STATE_FAILED
        ]
        for entry in sorted(able, key=lambda entry: not entry.config.default):
            for method in entry.described.methods:
                self._defaults.setdefault(method, entry)
        for entry in self._entries.values():
            methods = [method for method, default in self._defaults.items() if default is entry]
            entry.described.default_methods[:] = methods

    def _entry(self, model: str) -> Entry:
        """The entry that `name` or `name@version` means; of several versions the newest.

        Raises:
            ModelNotFound: there is none.
        """
        entry = self._entries.get(model)
        if entry is not None:
            return entry
        named = [each for each in self._entries.values() if each.card.name == model]
        if not named:
            raise ModelNotFound.among(model, self._service, list(self._entries))
        return max(named, key=lambda each: version_order(each.card.version))

    def _first(self, kind: type[AnyTask], method: str) -> Entry | None:
        """The first model of a kind that answers a method, those marked default before the others."""
        for entry in sorted(self._entries.values(), key=lambda entry: not entry.config.default):
            failed = entry.described.state == router_pb2.MODEL_STATE_FAILED
            if not failed and issubclass(entry.kind, kind) and method in entry.described.methods:
                return entry
        return None

    def _find(self, kind: type[AnyTask], method: str, model: str) -> Entry:
        if not model:
            default = self._defaults.get(method)
            if default is None or not issubclass(default.kind, kind):
                # The method has forms that want different kinds of model; the first that fits answers.
                default = self._first(kind, method)
            if default is None:
                raise FailedPrecondition(f"service {self._service} has no model that answers {method}")
            return default
        entry = self._entry(model)
        if issubclass(entry.kind, kind) and method in entry.described.methods:
            return entry
        able = [
            each
            for each in self._entries.values()
            if issubclass(each.kind, kind) and method in each.described.methods
        ]
        named = [each for each in able if each.card.name == model]  # another version of it does
        if not named:
            ids = ", ".join(each.card.id for each in able)
            raise InvalidArgument(
                f"{model!r} does not answer {method}; these do: {ids or 'none'}", field="model"
            )
        return max(named, key=lambda each: version_order(each.card.version))

    async def _ready(self, entry: Entry, call: Call) -> Loaded[AnyTask]:
        """Waits for a model's load, within the caller's deadline."""
        if entry.described.state == router_pb2.MODEL_STATE_FAILED:
            raise FailedPrecondition(f"{entry.card.id} could not be loaded: {entry.described.error}")
        if call.deadline < math.inf and time.monotonic() + entry.load_s > call.deadline:
            asyncio.ensure_future(self._start(entry)).add_done_callback(
                lambda done: done.cancelled() or done.exception()
            )
            raise Overloaded(
                f"{entry.card.id} is being loaded, which takes about {entry.load_s:.1f} s",
                retry_after_s=entry.load_s,
            )
        try:
            async with asyncio.timeout(call.remaining_s()):
                while entry.loaded is None:
                    await self._start(entry)
        except TimeoutError as error:
            raise DeadlineExceeded(f"the deadline passed while {entry.card.id} was loaded") from error
        return entry.loaded

    async def acquire(self, kind: type[K], method: str, model: str, context: CallContext) -> Loaded[K]:
        """The model that a request means, loaded if it was not.

        Args:
            kind: the task class that the method needs.
            method: the rpc's name, for example `Classify`.
            model: the request's `model`: "", `name` or `name@version`.

        Raises:
            ModelNotFound: this replica has no such model.
            InvalidArgument: it has, but the model does not answer this method.
            FailedPrecondition: it cannot be loaded.
        """
        entry = self._find(kind, method, model)
        loaded = entry.loaded or await self._ready(entry, Call.of(context))
        return cast(Loaded[K], loaded)

    @asynccontextmanager
    async def using(self, model: str, call: Call) -> AsyncIterator[Loaded[AnyTask]]:
        """The model `name` or `name@version`, whatever it answers; loaded if it was not, and held.

        Raises:
            ModelNotFound: this replica has no such model.
            FailedPrecondition: it cannot be loaded.
        """
        entry = self._entry(model)
        loaded = entry.loaded or await self._ready(entry, call)
        entry.uses += 1
        try:
            yield loaded
        finally:
            entry.uses -= 1
            entry.last_used = time.monotonic()

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
        entry = self._find(kind, method, model)
        call = Call.of(context)
        loaded = entry.loaded or await self._ready(entry, call)
        entry.uses += 1
        try:
            outcomes = await loaded.items(inputs, call)
        finally:
            entry.uses -= 1
            entry.last_used = time.monotonic()
        pairs = []
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            pairs.append(outcome)
        return Answer([out for out, _ in pairs], loaded.served_by(done for _, done in pairs))

    async def stream(
        self, kind: type[Task[In, Any, Any, Out]], method: str, model: str, entry: In, context: CallContext
    ) -> AsyncIterator[Streamed]:
        """The pieces of one input's answer, as the model makes them; stopping to ask ends the work.

        Raises:
            MeshworkError: of the input, of admission, or of the model.
        """
        found = self._find(kind, method, model)
        call = Call.of(context)
        loaded = found.loaded or await self._ready(found, call)
        found.uses += 1
        try:
            async with aclosing(loaded.stream(entry, call)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    yield piece
        finally:
            found.uses -= 1
            found.last_used = time.monotonic()

    async def close(self) -> None:
        """Stops the devices and closes the models; does not wait for a forward pass that still runs."""
        loading = [entry.loading for entry in self._entries.values() if entry.loading]
        for run in (*self._runs, *loading):
            run.cancel()
        await asyncio.gather(*self._runs, *loading, return_exceptions=True)
        for pool in (*(device.thread for device in self._devices.values()), self._cpu, self._loader):
            pool.shutdown(wait=False, cancel_futures=True)
        for entry in self._entries.values():
            if entry.loaded is not None:
                for worker in entry.loaded.workers:
                    worker.task.close()


def _key(config: ModelConfig) -> tuple[str, str, str]:
    return config.source, config.name, config.version


def _describe_card(described: router_pb2.Model, card: ModelCard, kind: type[AnyTask]) -> None:
    described.name = card.name
    described.version = card.version
    described.methods[:] = card.methods or kind.methods
    described.licence = card.licence
    described.description = card.description
    described.limits[:] = card.limits
    for entry in card.quality:
        described.quality.add(metric=entry.metric, value=entry.value, dataset=entry.dataset)
