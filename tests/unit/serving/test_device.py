from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import pytest

from meshwork.errors import DeadlineExceeded, InvalidArgument, Overloaded
from meshwork.serving.call import Call, Priority
from meshwork.serving.card import ModelCard
from meshwork.serving.cost import CostModel
from meshwork.serving.device import BatchSource, Bounds, Device, Done
from meshwork.serving.lane import Lane
from meshwork.serving.load import LoadMeter
from meshwork.serving.loaded import Loaded, Worker
from tests.unit.serving.echo_task import Echo

CARD = ModelCard(name="echo", version="1", service="nlp", task="echo", methods=("Say",))
NO_DEADLINE = Call()


def until(deadline: float) -> Call:
    return Call(deadline=deadline)


@pytest.fixture(scope="module")
def cpu() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    device = Device("cpu", LoadMeter(), bounds=Bounds(items=100))
    run = asyncio.create_task(device.run())
    yield device
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    device.thread.shutdown()


@pytest.fixture
def idle() -> Iterator[Device]:
    """A device that nothing runs: its queue only grows."""
    device = Device("cpu", LoadMeter(), bounds=Bounds(items=200))
    yield device
    device.thread.shutdown()


class Model:
    """An Echo on a device."""

    def __init__(self, device: Device, cpu: ThreadPoolExecutor, name: str = "echo") -> None:
        self.echo = Echo()
        self.lane = Lane(self.echo.max_batch_items)
        self.source = BatchSource(name, self.echo, self.lane, device, 1)
        self.source.costs.learn(64, 64e-7)  # no batch is as good as a large one: as large as may be
        device.add(self.source)
        self.loaded = Loaded(CARD, "nlp-1", self.lane, (Worker(self.echo, "cpu", device, self.source),), cpu)

    async def ask(self, item: str, call: Call = NO_DEADLINE) -> Done:
        (outcome,) = await self.loaded.items([item], call)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome[1]

    def asking(self, item: str, call: Call = NO_DEADLINE) -> asyncio.Task[Done]:
        return asyncio.create_task(self.ask(item, call))

    async def blocked(self) -> asyncio.Task[Done]:
        """Keeps the device busy until the gate is set."""
        self.echo.gate.clear()
        blocker = self.asking("blocker")
        await asyncio.to_thread(self.echo.began.wait, 10)
        return blocker

    async def queued(self, count: int) -> None:
        while self.lane.queued < count:
            await asyncio.sleep(0)


@pytest.fixture
def model(device: Device, cpu: ThreadPoolExecutor) -> Model:
    return Model(device, cpu)


def raising(error: BaseException) -> Callable[[object], NoReturn]:
    def forward(batch: object) -> NoReturn:
        raise error

    return forward


async def test_a_lone_item_runs_at_once_alone(model: Model) -> None:
    done = await model.ask("a")
    assert done.raw == "echo a"
    assert done.batch_size == 1
    assert model.echo.batches == [["a"]]


async def test_what_queues_while_the_device_is_busy_forms_batches(model: Model) -> None:
    first = await model.blocked()
    rest = [model.asking(str(number)) for number in range(10)]
    await model.queued(10)
    model.echo.gate.set()
    await asyncio.gather(first, *rest)
    assert max(len(batch) for batch in model.echo.batches) == 8


async def test_the_nearest_deadline_goes_first(model: Model) -> None:
    blocker = await model.blocked()
    now = time.monotonic()
    calls = []
    for name, seconds in [("late", 0.9), ("soon", 0.5), ("middle", 0.7)]:
        calls.append(model.asking(name, until(now + seconds)))
        await model.queued(len(calls))
    model.echo.gate.set()
    await asyncio.gather(blocker, *calls)
    assert model.echo.batches[-1] == ["soon", "middle", "late"]


async def test_interactive_calls_pass_default_ones_and_batch_calls_come_last(model: Model) -> None:
    blocker = await model.blocked()
    calls = []
    for priority in (Priority.BATCH, Priority.DEFAULT, Priority.INTERACTIVE):
        calls.append(model.asking(priority.name, Call(priority=priority)))
        await model.queued(len(calls))
    model.echo.gate.set()
    await asyncio.gather(blocker, *calls)
    assert model.echo.batches[-1] == ["INTERACTIVE", "DEFAULT", "BATCH"]


async def test_work_whose_caller_left_never_reaches_the_device(model: Model) -> None:
    blocker = await model.blocked()
    gone = model.asking("gone")
    await model.queued(1)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    model.echo.gate.set()
    await blocker
    await model.ask("after")
    assert all("gone" not in batch for batch in model.echo.batches)


async def test_work_whose_deadline_passed_in_the_queue_fails_with_deadline_exceeded(model: Model) -> None:
    blocker = await model.blocked()
    deadline = time.monotonic() + 0.2
    late = model.asking("late", until(deadline))
    await model.queued(1)
    while time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    model.echo.gate.set()
    with pytest.raises(DeadlineExceeded):
        await late
    await blocker
    assert all("late" not in batch for batch in model.echo.batches)


async def test_a_queue_full_of_items_refuses_and_says_when_to_come_back(cpu: ThreadPoolExecutor) -> None:
    device = Device("cpu", LoadMeter(), bounds=Bounds(items=2))
    model = Model(device, cpu)
    waiting = [model.asking(str(number)) for number in range(2)]
    await model.queued(2)
    with pytest.raises(Overloaded) as refusal:
        await model.ask("one too many")
    assert refusal.value.retry_after_s
    for task in waiting:
        task.cancel()
    device.thread.shutdown()


async def test_a_queue_full_of_bytes_refuses_large_items_but_takes_any_alone(cpu: ThreadPoolExecutor) -> None:
    device = Device("cpu", LoadMeter(), bounds=Bounds(queue_bytes=1000))
    model = Model(device, cpu)
    waiting = model.asking("x" * 5000)
    await model.queued(1)
    with pytest.raises(Overloaded, match="MB are queued"):
        await model.ask("y")
    waiting.cancel()
    device.thread.shutdown()


async def test_a_call_that_cannot_be_answered_in_time_is_refused_at_the_door(
    idle: Device, cpu: ThreadPoolExecutor
) -> None:
    model = Model(idle, cpu)
    model.source.costs = CostModel()
    model.source.costs.learn(1, 1.0)
    waiting = [model.asking(str(number)) for number in range(5)]
    await model.queued(5)
    with pytest.raises(Overloaded) as refusal:
        await model.ask("hurried", until(time.monotonic() + 2))
    assert refusal.value.retry_after_s == pytest.approx(5.0)
    for task in waiting:
        task.cancel()


async def test_a_call_that_would_be_answered_just_before_its_deadline_is_refused_with_those_after(
    idle: Device, cpu: ThreadPoolExecutor
) -> None:
    model = Model(idle, cpu)
    model.source.costs = CostModel()
    model.source.costs.learn(1, 1.0)
    waiting = [model.asking(str(number)) for number in range(5)]
    await model.queued(5)
    with pytest.raises(Overloaded):
        await model.ask("close", until(time.monotonic() + 6.5))  # 5 s of queue, 1 s of its own
    waiting.append(model.asking("with room", until(time.monotonic() + 8)))
    await model.queued(6)
    for task in waiting:
        task.cancel()


async def test_a_call_whose_deadline_has_passed_is_told_so(model: Model) -> None:
    with pytest.raises(DeadlineExceeded):
        await model.ask("late", until(time.monotonic() - 1))
    assert model.echo.batches == []


async def test_a_bad_item_fails_alone(model: Model) -> None:
    results = await asyncio.gather(
        *(model.ask(item) for item in ["a", "bad", "b", "break", "c"]), return_exceptions=True
    )
    assert [r.raw for r in results if isinstance(r, Done)] == ["echo a", "echo b", "echo c"]
    assert isinstance(results[1], InvalidArgument)
    assert isinstance(results[3], RuntimeError)


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration(), KeyboardInterrupt(), MemoryError()])
async def test_the_device_outlives_whatever_a_task_raises(
    model: Model, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(model.echo, "forward", raising(error))
        with pytest.raises((RuntimeError, MemoryError)):
            await model.ask("a")
    assert (await model.ask("b")).raw == "echo b"


@pytest.mark.parametrize("answer", [[], ["x", "y"], None, 7])
async def test_the_device_outlives_an_answer_of_the_wrong_length_or_kind(
    model: Model, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(model.echo, "forward", lambda batch: answer)
        with pytest.raises((RuntimeError, TypeError)):
            await model.ask("a")
    assert (await model.ask("b")).raw == "echo b"


async def test_those_who_left_take_no_place_in_the_queue_and_no_time(
    idle: Device, cpu: ThreadPoolExecutor
) -> None:
    model = Model(idle, cpu)
    for _ in range(5):
        waiting = [model.asking(str(number)) for number in range(200)]
        await model.queued(200)
        assert idle.wait_s() == pytest.approx(200e-7)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert model.lane.queued == 0
        assert model.lane.queued_bytes == 0
        assert idle.wait_s() == 0


class Late:
    """Jobs that should take 10 ms, on a device to which its process comes 5 ms late each time."""

    queued = queued_bytes = 0
    served_cost = rate_s = 0.0
    expected_s = 0.01
    on_loop = True

    def __init__(self, jobs: int, *, apart: bool) -> None:
        self.now, self.left, self._apart, self._rests = 0.0, jobs, apart, False

    def queued_s(self) -> float:
        return 1.0

    def first_due(self, now: float) -> float | None:
        self._rests = self._apart and not self._rests
        return 0.0 if self.left and not self._rests else None

    def next_job(self, now: float) -> Late:
        self.left -= 1
        return self

    def run(self) -> None:
        self.now += 0.01

    def settle(self, result: object, begun: float, elapsed_s: float) -> None:
        self.now += 0.005

    def end_queued(self, error: Exception) -> None:
        pass


@pytest.mark.parametrize(("apart", "wait_s"), [(False, 1.5), (True, 1.0)])
async def test_the_wait_counts_how_late_a_process_comes_to_its_device(apart: bool, wait_s: float) -> None:
    late = Late(200, apart=apart)
    device = Device("cpu", LoadMeter(), clock=lambda: late.now)
    device.add(late)
    run = asyncio.create_task(device.run())
    while late.left:
        device.wake()
        await asyncio.sleep(0)
    assert device.predicted_s() == pytest.approx(wait_s, rel=0.01)
    assert device.wait_s() == 1.0  # by which replicas are weighed
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    device.thread.shutdown()


def test_an_item_holds_its_place_while_it_is_prepared() -> None:
    device = Device("cpu", LoadMeter(), bounds=Bounds(items=1))
    with (
        device.preparing(NO_DEADLINE, "echo", 1, 10),
        pytest.raises(Overloaded),
        device.preparing(NO_DEADLINE, "echo", 1, 10),
    ):
        pytest.fail("there is no second place")
    with device.preparing(NO_DEADLINE, "echo", 1, 10):
        pass
    device.thread.shutdown()


async def test_a_busy_model_does_not_keep_another_from_its_turn(
    device: Device, model: Model, cpu: ThreadPoolExecutor
) -> None:
    other = Model(device, cpu, "other")
    other.echo.batches = model.echo.batches  # one list, in the device's order
    blocker = await model.blocked()
    flood = [model.asking(str(number)) for number in range(60)]
    await model.queued(60)
    single = other.asking("single", Call(priority=Priority.INTERACTIVE))
    await other.queued(1)
    model.echo.gate.set()
    await single
    assert model.echo.batches[:2] == [["blocker"], ["single"]]
    await asyncio.gather(blocker, *flood)


async def test_each_of_thousands_of_callers_gets_its_own_answer(model: Model) -> None:
    chance = random.Random(7)
    answered = 0

    async def caller(number: int) -> None:
        nonlocal answered
        for step in range(40):
            name = (
                f"{chance.choice(['', '', '', 'bad ', 'break '])}{number}-{step}{'x' * chance.randrange(99)}"
            )
            asked = model.asking(name, Call(caller=str(number % 7), priority=chance.choice(list(Priority))))
            if chance.random() < 0.1:
                await asyncio.sleep(0)
                asked.cancel()
            try:
                done = await asked
            except (asyncio.CancelledError, Overloaded):
                continue
            except InvalidArgument:
                assert name.startswith("bad")
                continue
            except RuntimeError:
                assert name.startswith("break")
                continue
            assert done.raw == f"echo {name}"
            answered += 1

    await asyncio.gather(*(caller(number) for number in range(90)))
    assert answered > 1000
    assert model.lane.queued == 0
