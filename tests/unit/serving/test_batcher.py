from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import pytest

from meshwork.errors import DeadlineExceeded, InvalidArgument, Overloaded
from meshwork.serving.batcher import Device, Lane
from meshwork.serving.load import LoadMeter
from tests.unit.serving.echo_task import Echo


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    device = Device("cpu", LoadMeter(), max_queued=100)
    run = asyncio.create_task(device.run())
    yield device
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    device.thread.shutdown()


def lane_on(device: Device) -> tuple[Lane, Echo]:
    echo = Echo()
    lane = Lane(echo)
    device.add(lane)
    return lane, echo


async def queued(lane: Lane, count: int) -> None:
    while lane.queued < count:
        await asyncio.sleep(0)


def raising(error: BaseException) -> Callable[[object], NoReturn]:
    def forward(batch: object) -> NoReturn:
        raise error

    return forward


async def test_a_lone_item_runs_at_once_alone(device: Device) -> None:
    lane, echo = lane_on(device)
    done = await device.submit(lane, "a", math.inf)
    assert done.raw == "echo a"
    assert done.batch_size == 1
    assert echo.batches == [["a"]]


async def test_what_queues_while_the_device_is_busy_forms_batches_up_to_the_budget(device: Device) -> None:
    lane, echo = lane_on(device)
    echo.gate.clear()
    first = asyncio.create_task(device.submit(lane, "first", math.inf))
    await asyncio.to_thread(echo.began.wait, 10)
    rest = [asyncio.create_task(device.submit(lane, str(n), math.inf)) for n in range(10)]
    await queued(lane, 10)
    echo.gate.set()
    await asyncio.gather(first, *rest)
    assert max(len(batch) for batch in echo.batches) == 8


async def test_the_most_urgent_deadline_goes_first(device: Device) -> None:
    lane, echo = lane_on(device)
    echo.gate.clear()
    now = time.monotonic()
    blocker = asyncio.create_task(device.submit(lane, "blocker", math.inf))
    await asyncio.to_thread(echo.began.wait, 10)
    calls = [
        asyncio.create_task(device.submit(lane, name, now + seconds))
        for name, seconds in [("late", 90), ("soon", 30), ("middle", 60)]
    ]
    await queued(lane, 3)
    echo.gate.set()
    await asyncio.gather(blocker, *calls)
    assert echo.batches[-1] == ["soon", "middle", "late"]


async def test_work_whose_caller_left_never_reaches_the_device(device: Device) -> None:
    lane, echo = lane_on(device)
    echo.gate.clear()
    blocker = asyncio.create_task(device.submit(lane, "blocker", math.inf))
    await asyncio.to_thread(echo.began.wait, 10)
    gone = asyncio.create_task(device.submit(lane, "gone", math.inf))
    await queued(lane, 1)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    echo.gate.set()
    await blocker
    await device.submit(lane, "after", math.inf)
    assert all("gone" not in batch for batch in echo.batches)


async def test_work_whose_deadline_passed_in_the_queue_fails_with_deadline_exceeded(device: Device) -> None:
    lane, echo = lane_on(device)
    echo.gate.clear()
    blocker = asyncio.create_task(device.submit(lane, "blocker", math.inf))
    await asyncio.to_thread(echo.began.wait, 10)
    deadline = time.monotonic() + 0.02
    late = asyncio.create_task(device.submit(lane, "late", deadline))
    while time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    echo.gate.set()
    with pytest.raises(DeadlineExceeded):
        await late
    await blocker
    assert all("late" not in batch for batch in echo.batches)


async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    device = Device("cpu", LoadMeter(), max_queued=2)  # nothing runs it: the queue only grows
    lane, _ = lane_on(device)
    waiting = [asyncio.create_task(device.submit(lane, str(n), math.inf)) for n in range(2)]
    await queued(lane, 2)
    with pytest.raises(Overloaded) as refusal:
        await device.submit(lane, "one too many", math.inf)
    assert refusal.value.retry_after_s
    for task in waiting:
        task.cancel()
    device.thread.shutdown()


async def test_a_call_that_cannot_be_answered_in_time_is_refused_at_the_door() -> None:
    device = Device("cpu", LoadMeter())
    lane, _ = lane_on(device)
    lane.learn(cost=1, elapsed_s=1.0)
    waiting = [asyncio.create_task(device.submit(lane, str(n), math.inf)) for n in range(5)]
    await queued(lane, 5)
    with pytest.raises(Overloaded) as refusal:
        await device.submit(lane, "hurried", time.monotonic() + 2)
    assert refusal.value.retry_after_s == pytest.approx(5.0)
    for task in waiting:
        task.cancel()
    device.thread.shutdown()


async def test_a_call_whose_deadline_has_passed_is_told_so(device: Device) -> None:
    lane, echo = lane_on(device)
    with pytest.raises(DeadlineExceeded):
        await device.submit(lane, "late", time.monotonic() - 1)
    assert echo.batches == []


async def test_a_bad_item_fails_alone(device: Device) -> None:
    lane, _ = lane_on(device)
    results = await asyncio.gather(
        *(device.submit(lane, item, math.inf) for item in ["a", "bad", "b", "break", "c"]),
        return_exceptions=True,
    )
    assert [r.raw for r in results if not isinstance(r, BaseException)] == ["echo a", "echo b", "echo c"]
    assert isinstance(results[1], InvalidArgument)
    assert isinstance(results[3], RuntimeError)


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration(), KeyboardInterrupt(), MemoryError()])
async def test_the_device_outlives_whatever_a_task_raises(
    device: Device, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    lane, echo = lane_on(device)
    with monkeypatch.context() as broken:
        broken.setattr(echo, "forward", raising(error))
        with pytest.raises((RuntimeError, MemoryError)):
            await device.submit(lane, "a", math.inf)
    assert (await device.submit(lane, "b", math.inf)).raw == "echo b"


@pytest.mark.parametrize("answer", [[], ["x", "y"], None, 7])
async def test_the_device_outlives_an_answer_of_the_wrong_length_or_kind(
    device: Device, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    lane, echo = lane_on(device)
    with monkeypatch.context() as broken:
        broken.setattr(echo, "forward", lambda batch: answer)
        with pytest.raises((RuntimeError, TypeError)):
            await device.submit(lane, "a", math.inf)
    assert (await device.submit(lane, "b", math.inf)).raw == "echo b"


async def test_those_who_left_take_no_place_in_the_queue_and_no_time() -> None:
    device = Device("cpu", LoadMeter(), max_queued=200)  # nothing runs it: only leaving makes room
    lane, _ = lane_on(device)
    lane.learn(cost=1, elapsed_s=1.0)
    for _ in range(5):
        waiting = [asyncio.create_task(device.submit(lane, str(n), math.inf)) for n in range(200)]
        await queued(lane, 200)
        assert device.predicted_wait_s() == pytest.approx(200)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert lane.queued == 0
        assert device.predicted_wait_s() == 0
        assert len(lane.heap) <= 200
    device.thread.shutdown()


async def test_an_item_holds_its_place_while_it_is_prepared() -> None:
    device = Device("cpu", LoadMeter(), max_queued=1)
    with device.preparing(math.inf), pytest.raises(Overloaded), device.preparing(math.inf):
        pytest.fail("there is no second place")
    with device.preparing(math.inf):
        pass
    device.thread.shutdown()


async def test_each_of_thousands_of_callers_gets_its_own_answer(device: Device) -> None:
    lane, _ = lane_on(device)
    chance = random.Random(7)
    answered = 0

    async def caller(number: int) -> None:
        nonlocal answered
        for step in range(40):
            name = f"{chance.choice(['', '', '', 'bad ', 'break '])}{number}-{step}"
            call = asyncio.create_task(device.submit(lane, name, math.inf))
            if chance.random() < 0.1:
                await asyncio.sleep(0)
                call.cancel()
            try:
                done = await call
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
