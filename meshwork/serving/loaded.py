"""A model that is loaded: its workers, one a device, and the way of an input through one of them.

Preprocessing and postprocessing run on a pool of CPU threads, or on the event loop where a task is
`light`; a request's many inputs go there in a few chunks, so that the device has the first while the
next are prepared.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from meshwork.errors import MeshworkError
from meshwork.serving import traced
from meshwork.serving.call import Call
from meshwork.serving.card import ModelCard
from meshwork.serving.device import BatchSource, Device, Done
from meshwork.serving.lane import AnyTask, Lane, Work
from meshwork.serving.sizes import nbytes
from meshwork.serving.streams import StreamSource
from meshwork.serving.tensor_task import TensorTask
from meshwork.serving.threads import contained
from meshwork.type.v1 import served_by_pb2

K = TypeVar("K", bound=AnyTask, covariant=True)

_CHUNK = 16  # inputs of one request that one CPU thread prepares at a time


@dataclass(frozen=True, slots=True)
class Worker:
    """A model on one device."""

    task: AnyTask
    on: str  # the device's name as the operator gave it
    device: Device
    source: BatchSource | StreamSource

    @property
    def item_s(self) -> float:
        """Seconds that an item takes there in a good batch, as measured lately; 0 while not known."""
        return self.source.rate_s * self.source.item_cost


@dataclass(frozen=True, slots=True)
class Streamed:
    """A piece of a streamed answer."""

    out: Any
    served_by: served_by_pb2.ServedBy | None  # with the last piece


@dataclass(frozen=True, slots=True)
class Loaded(Generic[K]):
    """A model that is ready."""

    card: ModelCard
    replica: str
    lane: Lane
    workers: tuple[Worker, ...]
    cpu: Executor
    raw: Loaded[TensorTask] | None = None  # its network as named tensors, in a queue of its own

    @property
    def task(self) -> K:
        """The model's task; of several devices', the first one's."""
        return cast(K, self.workers[0].task)

    @property
    def tensors(self) -> Loaded[TensorTask] | None:
        """What runs the model's network on named tensors, if it has that form."""
        return cast(Loaded[TensorTask], self) if isinstance(self.task, TensorTask) else self.raw

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

    async def items(self, inputs: Sequence[Any], call: Call) -> list[tuple[Any, Done] | Exception]:
        """What became of each input: its output and what it took, or the error that it ended with."""
        if len(inputs) <= _CHUNK:
            return await self._chunk(inputs, call)
        async with asyncio.TaskGroup() as group:
            chunks = [
                group.create_task(self._chunk(inputs[begin : begin + _CHUNK], call))
                for begin in range(0, len(inputs), _CHUNK)
            ]
        return [outcome for chunk in chunks for outcome in chunk.result()]

    async def _chunk(self, inputs: Sequence[Any], call: Call) -> list[tuple[Any, Done] | Exception]:
        worker = self._least_busy()
        device, task = worker.device, worker.task
        works: list[Work[Done]] = []
        outcomes: list[Any] = []
        way = traced.Way(call, self.card, self.replica)
        try:
            with device.preparing(call, self.card.id, len(inputs), sum(map(nbytes, inputs))):
                prepared = await self._each(task.preprocess, [(each,) for each in inputs], here=task.light)
                way.preprocessed(len(inputs))
                for each in prepared:
                    if isinstance(each, Exception):
                        outcomes.append(each)
                        continue
                    if call.deadline < math.inf:
                        own_s = worker.source.seconds(task.cost(each))
                        device.check_in_time(call, self.card.id, own_s)
                    work = self.lane.put(task, each, call, device.clock())
                    works.append(work)
                    outcomes.append(work)
            for each_worker in self.workers:
                each_worker.device.wake()
            for index, work in enumerate(outcomes):
                if isinstance(work, Work):
                    outcomes[index] = await _outcome(work)
        except MeshworkError as error:
            return [error] * len(inputs)
        finally:
            for work in works:
                work.done.cancel()
        done = [index for index, outcome in enumerate(outcomes) if isinstance(outcome, Done)]
        way.computed(device.name, [outcomes[index] for index in done])
        pairs = [(prepared[index], outcomes[index].raw) for index in done]
        here = task.light or task.light_answers
        outs = await self._each(task.postprocess, pairs, here=here) if pairs else []
        way.postprocessed()
        for index, out in zip(done, outs, strict=True):
            outcomes[index] = out if isinstance(out, Exception) else (out, outcomes[index])
        return outcomes

    async def stream(self, entry: Any, call: Call) -> AsyncIterator[Streamed]:
        """The pieces of one input's answer, as they are made.

        Raises:
            MeshworkError: of the input, of admission, or of the model.
        """
        worker = self._least_busy()
        source = worker.source
        assert isinstance(source, StreamSource)
        task = source.task
        way = traced.Way(call, self.card, self.replica)
        with worker.device.preparing(call, self.card.id, 1, nbytes(entry)):
            (prepared,) = await self._each(task.preprocess, [(entry,)], here=task.light)
            way.preprocessed(1)
            if isinstance(prepared, Exception):
                raise prepared
            stream = source.open(prepared, call)
        try:
            finished = False
            while not finished:
                piece = await stream.pieces.get()
                if isinstance(piece.raw, BaseException):
                    raise piece.raw
                finished = piece.finished
                out = contained(task.postprocess, prepared, piece.raw)
                done = Done(
                    raw=None,
                    queue_s=stream.joined - stream.work.arrived,
                    compute_s=stream.compute_s,
                    batch_size=stream.most,
                    begun=stream.joined,
                )
                if finished:
                    way.computed(worker.device.name, [done])
                yield Streamed(out, self.served_by([done]) if finished else None)
        finally:
            source.close(stream)

    def _least_busy(self) -> Worker:
        if len(self.workers) == 1:
            return self.workers[0]
        return min(self.workers, key=lambda worker: worker.device.wait_s())

    async def _each(
        self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], *, here: bool
    ) -> list[Any]:
        """As `_results`: on the event loop if `here`, else on a CPU thread."""
        if here:
            return _results(function, arguments)
        return await asyncio.get_running_loop().run_in_executor(self.cpu, _results, function, arguments)


def _results(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """What the function gave for each, or the exception that it raised."""
    results: list[Any] = []
    for given in arguments:
        try:
            results.append(contained(function, *given))
        except Exception as error:
            results.append(error)
    return results


async def _outcome(work: Work[Done]) -> Done | Exception:
    try:
        done = await work.done
    except Exception as error:
        return error
    return done.raw if isinstance(done.raw, Exception) else done
