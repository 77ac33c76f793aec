"""Bringing models up on their devices, and taking them down again.

::

    added --load--> LOADING --> READY --unload, evicted--> UNLOADED --a call, load--> LOADING
                       `-----> FAILED         READY --its devices stall--> FAILED --they come back--> READY

Loads happen one at a time on a thread of their own, so that what is served goes on. A model that does
not fit into its device's memory makes room by evicting the least recently used ones that are idle.

While all devices of a model have stalled it takes no calls, and those that wait are ended so that they
are made again elsewhere. What was begun is not: it may be what the device does not come back from.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

from meshwork.devices import parse_devices, physical
from meshwork.errors import FailedPrecondition, Unavailable
from meshwork.router.v1 import router_pb2
from meshwork.serving import memory, metrics
from meshwork.serving.build import Built, build, estimate_bytes
from meshwork.serving.card import CardError
from meshwork.serving.device import BatchSource, Bounds, Device
from meshwork.serving.engines.report import describe_engine
from meshwork.serving.lane import AnyTask, Lane
from meshwork.serving.ledger import Ledger
from meshwork.serving.load import LoadMeter
from meshwork.serving.loaded import Loaded, Worker
from meshwork.serving.roster import Entry, Roster
from meshwork.serving.streams import StreamSource
from meshwork.serving.task import StreamTask
from meshwork.serving.tensor_task import TensorTask
from meshwork.serving.threads import contained

log = logging.getLogger(__name__)

LOOK_S = 0.25  # from one look for stalled devices to the next
UNLOAD_S = 30.0  # the longest to wait for calls in flight before a model is taken away


class Lifecycle:
    """Loads and unloads the models of a roster.

    Args:
        roster: every model that may have to make room for another.
        replica: the replica's name.
        load: told of device time and queue.
        cpu: threads that prepare inputs and answers.
        on_change: called whenever what a model's description says has changed.
        bounds: what each device's queues may hold.
        memory_bytes: what models may fill of each device; 0 for most of what there is.
    """

    def __init__(
        self,
        roster: Roster,
        replica: str,
        load: LoadMeter,
        cpu: Executor,
        on_change: Callable[[], None],
        bounds: Bounds | None,
        memory_bytes: int,
    ) -> None:
        self._roster = roster
        self._replica = replica
        self._load = load
        self._cpu = cpu
        self._on_change = on_change
        self._bounds = bounds
        self._memory_bytes = memory_bytes
        self.loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._room = asyncio.Lock()  # one load at a time makes room and takes it
        self._devices: dict[str, Device] = {}
        self._runs: list[asyncio.Task[None]] = []
        self._ledgers: dict[str, Ledger] = {}  # by physical device

    def tell(self, described: router_pb2.Model, progress: str) -> None:
        """Says how far a load is."""
        described.progress = progress
        self._on_change()

    def enter(self, described: router_pb2.Model, state: router_pb2.ModelState.ValueType) -> None:
        """Says in which state a model is now."""
        described.state = state
        self._on_change()

    def failed(self, described: router_pb2.Model, error: Exception) -> None:
        """Says that a model cannot be served, and why."""
        known = isinstance(error, CardError)
        described.error = str(error) if known else f"{type(error).__name__}: {error}"
        log.error("cannot load %s: %s", described.source, described.error, exc_info=None if known else error)
        metrics.LOADS.labels(described.name, "failed").inc()
        self.enter(described, router_pb2.MODEL_STATE_FAILED)

    async def start(self, entry: Entry) -> Loaded[AnyTask]:
        """Loads a model, or waits for the load that is under way.

        Raises:
            FailedPrecondition: it cannot be loaded; says why.
        """
        if entry.loading is None:
            entry.loading = asyncio.create_task(self._brought_up(entry), name=f"load {entry.card.id}")
            entry.loading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(entry.loading)

    async def unload(self, entry: Entry, cause: str) -> None:
        """Takes a model out of memory once its calls are answered, and gives the memory back."""
        if entry.loading is not None:
            await asyncio.wait([entry.loading])
        loaded, entry.loaded = entry.loaded, None
        self.enter(entry.described, router_pb2.MODEL_STATE_UNLOADED)
        if loaded is not None:
            tasks = [weakref.ref(worker.task) for worker in loaded.workers]
            await self._take_down(entry, loaded, cause)
            del loaded
            await asyncio.get_running_loop().run_in_executor(self.loader, memory.give_back, tasks)

    async def _brought_up(self, entry: Entry) -> Loaded[AnyTask]:
        described, card = entry.described, entry.card
        described.error = ""
        if described.state == router_pb2.MODEL_STATE_UNLOADED:
            self.tell(described, "loading")  # its state stays: it takes calls, and they wait
        else:
            self.enter(described, router_pb2.MODEL_STATE_LOADING)
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
                        self.loader, contained, build, entry.kind, entry.directory, name
                    )
                    for name in names
                ]
                loaded = entry.loaded = self._connected(entry, names, built)
                for device in dict.fromkeys(map(physical, names)):
                    await self._settle_room(device, entry)
                entry.load_s = time.monotonic() - began
        except Exception as error:
            self.failed(described, error)
            raise FailedPrecondition(f"{card.id} cannot be loaded: {described.error}") from error
        finally:
            entry.loading = None
        log.info("loaded %s on %s in %.1f s", card.id, described.device, entry.load_s)
        metrics.LOADS.labels(card.name, "ready").inc()
        entry.last_used = time.monotonic()
        self._roster.choose_defaults()
        described.progress = ""
        self.enter(described, router_pb2.MODEL_STATE_READY)
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
        idle = [each for each in self._roster if each.loaded and not each.uses and each is not besides]
        return [each.card.id for each in sorted(idle, key=lambda each: each.last_used)]

    async def _evict(self, models: Sequence[str], device: str, entry: Entry) -> None:
        for model in models:
            log.info("evicting %s from %s to make room for %s", model, device, entry.card.id)
            await self.unload(self._roster.named(model), "evicted")

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

    async def _watch(self) -> None:
        """Looks for devices that stall, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            for device in self._devices.values():
                device.look(LOOK_S)
            for entry in self._roster:
                if entry.loaded is not None:
                    self._look_at(entry, entry.loaded)

    def _look_at(self, entry: Entry, loaded: Loaded[AnyTask]) -> None:
        stalled = all(worker.device.stalled for worker in loaded.workers)
        if stalled:
            error = loaded.workers[0].device.stall()
            for worker in (*loaded.workers, *(loaded.raw.workers if loaded.raw else ())):
                worker.source.end_queued(error)
            if not entry.stalled:
                log.error("%s takes no calls: %s", entry.card.id, error)
                entry.described.error = str(error)
                self.enter(entry.described, router_pb2.MODEL_STATE_FAILED)
        elif entry.stalled:
            log.warning("%s takes calls again: its device has come back", entry.card.id)
            entry.described.error = ""
            self.enter(entry.described, router_pb2.MODEL_STATE_READY)
        entry.stalled = stalled

    def _device(self, name: str) -> Device:
        if not self._runs:
            self._runs.append(asyncio.create_task(self._watch(), name="stalled devices"))
        if name not in self._devices:
            device = self._devices[name] = Device(name, self._load, bounds=self._bounds)
            self._runs.append(asyncio.create_task(device.run(), name=f"device {name}"))
        return self._devices[name]

    def _ledger(self, device: str) -> Ledger:
        if device not in self._ledgers:
            self._ledgers[device] = Ledger(self._memory_bytes or memory.capacity_bytes(device))
        return self._ledgers[device]

    async def close(self) -> None:
        """Stops the devices and closes the models; does not wait for a forward pass that still runs."""
        loading = [entry.loading for entry in self._roster if entry.loading]
        for run in (*self._runs, *loading):
            run.cancel()
        await asyncio.gather(*self._runs, *loading, return_exceptions=True)
        for pool in (*(device.thread for device in self._devices.values()), self.loader):
            pool.shutdown(wait=False, cancel_futures=True)
        for entry in self._roster:
            if entry.loaded is not None:
                for worker in entry.loaded.workers:
                    worker.task.close()
