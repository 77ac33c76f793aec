"""The models of a replica: added and removed while it runs, and called by name.

Callers of a model that is not loaded wait for its load within their deadlines.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from meshwork.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Overloaded,
)
from meshwork.model_config import ModelConfig
from meshwork.router.v1 import router_pb2
from meshwork.serving.build import COMMON_TASKS, task_class
from meshwork.serving.call import Call, CallContext
from meshwork.serving.capacity import moved
from meshwork.serving.card import CardError, ModelCard, ModelDirectory
from meshwork.serving.device import Bounds
from meshwork.serving.held import Held
from meshwork.serving.lane import AnyTask
from meshwork.serving.lifecycle import Lifecycle
from meshwork.serving.load import LoadMeter
from meshwork.serving.loaded import K, Loaded, Streamed
from meshwork.serving.roster import Entry, Roster
from meshwork.serving.sources import Catalogue, default_name, open_source
from meshwork.serving.tally import means
from meshwork.serving.task import In, Out, Task
from meshwork.serving.threads import contained
from meshwork.serving.windows import Windows
from meshwork.type.v1 import served_by_pb2

log = logging.getLogger(__name__)

T = TypeVar("T")


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
        architectures: end of an architecture's name in a Hugging Face config.json -> task.
        on_change: called whenever what `describe` says has changed.
        memory_bytes: what models may fill of each device; 0 for most of what there is.

    Attributes:
        windows: counts calls and answers.
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
        self._on_change = on_change
        self._catalogue = Catalogue(
            service=service,
            tasks=tuple(tasks),
            architectures=architectures or {},
            methods=lambda task: task_class(task, tasks, None).methods,
        )
        self._cpu = ThreadPoolExecutor(cpu_threads, thread_name_prefix="cpu")
        self.held = Held()  # told by whoever watches the event loop
        self._described: dict[tuple[str, str, str], router_pb2.Model] = {}  # by source, name, version
        self._roster = Roster(service)
        self.windows = Windows()
        self._lifecycle = Lifecycle(self._roster, replica, load, self._cpu, on_change, bounds, memory_bytes)

    def describe(self) -> list[router_pb2.Model]:
        """The models as a lease shows them, those loading and failed included."""
        held_s = self.held.look()
        for entry in self._roster:
            if entry.loaded is not None:
                entry.speed.take((each.item_s for each in entry.loaded.workers), entry.call_items, held_s)
                entry.described.item_ms = entry.speed.item_ms
                entry.described.capacity_rps = entry.speed.capacity_rps
        return list(self._described.values())

    @property
    def entries(self) -> list[Entry]:
        """The models that could be opened, in the order of adding."""
        return list(self._roster)

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
            self._lifecycle.failed(described, error)
            return
        self._roster.add(entry)
        if config.load == "demand":
            self._lifecycle.enter(described, router_pb2.MODEL_STATE_UNLOADED)
            return
        try:
            await self._lifecycle.start(entry)
        except Exception as error:
            log.debug("described as failed: %r", error)

    async def _opened(self, config: ModelConfig, described: router_pb2.Model) -> Entry:
        loop = asyncio.get_running_loop()

        def progress(text: str) -> None:
            loop.call_soon_threadsafe(self._lifecycle.tell, described, text)

        def opened() -> tuple[ModelDirectory, type[AnyTask]]:
            directory = open_source(config, self._catalogue, progress)
            return directory, task_class(directory.card.task, self._tasks, directory)

        directory, kind = await loop.run_in_executor(self._lifecycle.loader, contained, opened)
        if _key(config) not in self._described:
            raise CardError(f"{config.source} was removed while it was fetched")
        if directory.card.id in self._roster:
            raise CardError(f"{directory.source}: another model of this replica is {directory.card.id} too")
        _describe_card(described, directory.card, kind)
        self._lifecycle.tell(described, "")
        return Entry(config, described, kind, directory)

    async def load(self, model: str) -> None:
        """Loads a model that was unloaded or that failed; returns once it is ready.

        Raises:
            ModelNotFound: there is no such model.
            FailedPrecondition: it cannot be loaded; says why.
        """
        entry = self._roster.named(model)
        if entry.loaded is None:
            await self._lifecycle.start(entry)

    async def unload(self, model: str, cause: str = "asked") -> None:
        """Takes a model out of memory once its calls are answered; it stays known, and a call loads it.

        Raises:
            ModelNotFound: there is no such model.
        """
        await self._lifecycle.unload(self._roster.named(model), cause)

    async def remove(self, name: str, version: str = "") -> None:
        """Unloads and forgets a model: that version, or all of them; nothing happens if there is none."""
        for key, described in list(self._described.items()):
            if described.name != name or version not in ("", described.version):
                continue
            del self._described[key]
            entry = self._roster.of(described)
            if entry is not None:
                self._roster.remove(entry)
                await self._lifecycle.unload(entry, "removed")
            self._on_change()

    async def _ready(self, entry: Entry, call: Call) -> Loaded[AnyTask]:
        """Waits for a model's load, within the caller's deadline."""
        if entry.described.state == router_pb2.MODEL_STATE_FAILED:
            raise FailedPrecondition(f"{entry.card.id} could not be loaded: {entry.described.error}")
        if call.deadline < math.inf and time.monotonic() + entry.load_s > call.deadline:
            asyncio.ensure_future(self._lifecycle.start(entry)).add_done_callback(
                lambda done: done.cancelled() or done.exception()
            )
            raise Overloaded(
                f"{entry.card.id} is being loaded, which takes about {entry.load_s:.1f} s",
                retry_after_s=entry.load_s,
            )
        try:
            async with asyncio.timeout(call.remaining_s()):
                while entry.loaded is None:
                    await self._lifecycle.start(entry)
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
        entry = self._roster.find(kind, method, model)
        means(entry)
        loaded = entry.loaded or await self._ready(entry, Call.of(context))
        return cast(Loaded[K], loaded)

    @asynccontextmanager
    async def using(self, model: str, call: Call) -> AsyncIterator[Loaded[AnyTask]]:
        """The model `name` or `name@version`, whatever it answers; loaded if it was not, and held.

        Raises:
            ModelNotFound: this replica has no such model.
            FailedPrecondition: it cannot be loaded.
        """
        entry = self._roster.named(model)
        means(entry)
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
        entry = self._roster.find(kind, method, model)
        means(entry)
        call = Call.of(context)
        begun = time.monotonic()
        with self.windows.failing(entry.card.id):
            loaded = entry.loaded or await self._ready(entry, call)
            entry.uses += 1
            entry.call_items = moved(entry.call_items, len(inputs))
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
        self.windows.answered(entry.card.id, loaded.task, pairs, entry.last_used - begun)
        return Answer([out for out, _ in pairs], loaded.served_by(done for _, done in pairs))

    async def stream(
        self, kind: type[Task[In, Any, Any, Out]], method: str, model: str, entry: In, context: CallContext
    ) -> AsyncIterator[Streamed]:
        """The pieces of one input's answer, as the model makes them; stopping to ask ends the work.

        Raises:
            MeshworkError: of the input, of admission, or of the model.
        """
        found = self._roster.find(kind, method, model)
        means(found)
        call = Call.of(context)
        begun, first_s = time.monotonic(), 0.0
        with self.windows.failing(found.card.id):
            loaded = found.loaded or await self._ready(found, call)
            found.uses += 1
            try:
                async with aclosing(loaded.stream(entry, call)) as pieces:  # type: ignore[type-var]
                    async for piece in pieces:
                        first_s = first_s or time.monotonic() - begun
                        yield piece
            finally:
                found.uses -= 1
                found.last_used = time.monotonic()
        self.windows.answered(found.card.id, loaded.task, (), first_s)  # a caller waits for the first piece

    async def close(self) -> None:
        """Stops the devices and closes the models; does not wait for a forward pass that still runs."""
        await self._lifecycle.close()
        self._cpu.shutdown(wait=False, cancel_futures=True)


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
