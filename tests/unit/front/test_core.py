"""What `meshwork.front.core` needs of grpcio's private C core binding, without the rest of the front.

If these fail with a newer grpcio, replicas still serve (by grpc.aio where a name is gone); mend `core`.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import math
import time
import weakref
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc

from meshwork.front import core


class Arrivals:
    """A core whose calls wait to be taken by the test."""

    def __init__(self) -> None:
        self.core = core.Core([("grpc.so_reuseport", 0)])
        self.port = self.core.listen("127.0.0.1:0")
        self.calls: asyncio.Queue[Any] = asyncio.Queue()
        self.core.start(self.calls.put_nowait)

    async def stop(self) -> None:
        self.core.stop()
        self.core.cancel_calls()
        async with asyncio.timeout(10):
            await self.core.stopped


async def ended(begin: Any, *args: Any, **kwargs: Any) -> Any:
    """The event that ends what `begin` begins."""
    done = asyncio.get_running_loop().create_future()
    begin(*args, done.set_result, **kwargs)
    async with asyncio.timeout(10):
        return await done


async def left(call: Any) -> None:
    """Waits until the caller has left."""
    gone = asyncio.Event()
    core.watch(call, gone.set)
    async with asyncio.timeout(10):
        await gone.wait()


async def test_a_call_tells_its_method_metadata_and_deadline_and_is_answered() -> None:
    arrivals = Arrivals()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{arrivals.port}") as channel:
        answer = channel.unary_unary("/any/Method")(
            b"ask", timeout=30, metadata=(("k", "v"), ("b-bin", b"\xff"))
        )
        event = await arrivals.calls.get()
        assert event.call_details.method == b"/any/Method"
        assert 0 < event.call_details.deadline - time.time() < 31
        assert {("k", "v"), ("b-bin", b"\xff")} <= {tuple(pair) for pair in event.invocation_metadata}
        assert core.message(await ended(core.receive, event.call)) == b"ask"
        assert core.message(await ended(core.receive, event.call)) is None
        early = asyncio.Event()
        core.watch(event.call, early.set)
        core.finish(event.call, opening=(), raw=b"told", code=0, details="", trailer=(("t", "u"),))
        assert await answer == b"told"
        assert dict(await answer.trailing_metadata())["t"] == "u"
        assert not early.is_set()

        forever = channel.unary_unary("/any/Method")(b"")
        event = await arrivals.calls.get()
        assert event.call_details.deadline > 1e15
        assert not math.isnan(event.call_details.deadline)
        forever.cancel()
        await left(event.call)
    await arrivals.stop()


async def test_a_send_to_a_caller_that_left_fails_without_a_crash() -> None:
    arrivals = Arrivals()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{arrivals.port}") as channel:
        call = channel.unary_unary("/any/Method")(b"")
        event = await arrivals.calls.get()
        call.cancel()
        await left(event.call)
        sent = await ended(core.send, event.call, opening=(), raw=b"late")
        assert not sent.success
        core.finish(event.call, opening=None, raw=None, code=0, details="", trailer=())
    await arrivals.stop()


async def test_an_idle_core_keeps_no_call_alive_and_stops_clean() -> None:
    arrivals = Arrivals()

    class Holder:
        pass

    async with grpc.aio.insecure_channel(f"127.0.0.1:{arrivals.port}") as channel:
        answer = channel.unary_unary("/any/Method")(b"")
        event = await arrivals.calls.get()
        holder = Holder()
        gone = weakref.ref(holder)

        def tag(holder: Any = holder) -> None:
            raise AssertionError("nobody left")

        core.watch(event.call, tag)
        core.finish(event.call, opening=(), raw=b"", code=0, details="", trailer=())
        await answer
        del event, tag, holder
        async with asyncio.timeout(10):
            while gone() is not None:
                await asyncio.sleep(0.01)
                gc.collect()
    thread = arrivals.core._thread
    await arrivals.stop()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


async def test_an_error_in_one_event_does_not_end_the_others(caplog: pytest.LogCaptureFixture) -> None:
    arrivals = Arrivals()

    def breaks(event: Any) -> None:
        raise RuntimeError("a defect")

    async with grpc.aio.insecure_channel(f"127.0.0.1:{arrivals.port}") as channel:
        call = channel.unary_unary("/any/Method")(b"")
        event = await arrivals.calls.get()
        core.receive(event.call, breaks)
        core.finish(event.call, opening=(), raw=b"on", code=0, details="", trailer=())
        assert await call == b"on"
    await arrivals.stop()
    assert "a defect" in caplog.text


def test_a_grpcio_without_what_is_needed_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cygrpc, "ReceiveCloseOnServerOperation")
    try:
        with pytest.raises(ImportError, match="ReceiveCloseOnServerOperation"):
            importlib.reload(core)
    finally:
        monkeypatch.undo()
        importlib.reload(core)
