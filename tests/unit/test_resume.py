"""A stream whose server dies goes on with another one's answer, if that is the same."""

from __future__ import annotations

import contextlib
from typing import Any

import grpc
import pytest

import meshwork
from meshwork.contract import descriptor
from meshwork.errors import DeadlineExceeded, Unavailable
from meshwork.nlp.v1 import nlp_pb2
from meshwork.resume import Resumption, resumable
from tests.unit.dying_server import dying
from tests.unit.recording_server import Recorder


def text(pieces: list[Any]) -> str:
    return "".join(piece.text for piece in pieces)


def wanted(seed: int = 0) -> str:
    return "".join(f"w{number}x{seed} " for number in range(20))


def test_a_stream_whose_server_is_killed_ends_as_it_would_have_and_says_nothing_twice() -> None:
    with dying(dies_after=7) as first, dying(dies_after=12) as second, dying() as third:
        addresses = f"{first},{second},{third}"
        with meshwork.connect(addresses) as mesh:
            for _ in range(3):  # round robin: one of them begins at each
                assert text(list(mesh.nlp.generate(prompt="x"))) == wanted()


async def test_so_it_does_for_asyncio() -> None:
    with dying(dies_after=7) as first, dying() as second:
        async with meshwork.connect_async([first, second]) as mesh:
            for _ in range(2):
                assert text([piece async for piece in mesh.nlp.generate(prompt="x")]) == wanted()


def test_with_a_temperature_both_tries_get_one_seed() -> None:
    with dying(dies_after=7) as first, dying() as second, meshwork.connect([first, second]) as mesh:
        for _ in range(2):
            pieces = list(mesh.nlp.generate(prompt="x", temperature=0.7))
            seeds = {piece.text.partition("x")[2] for piece in pieces}
            assert len(pieces) == 20
            assert len(seeds) == 1
            assert seeds != {"0 "}


def test_a_seed_of_the_caller_s_or_none_is_left_as_it_is(recorder: Recorder) -> None:
    with meshwork.connect(recorder.address) as mesh:
        list(mesh.nlp.generate(prompt="x"))
        list(mesh.nlp.generate(prompt="x", temperature=1, seed=0))
    plain, seeded = (call.request for call in recorder.calls)
    assert not plain.HasField("seed")
    assert seeded.HasField("seed")
    assert seeded.seed == 0


def test_an_answer_that_goes_on_otherwise_is_not_put_behind_the_first_one_s_head() -> None:
    with dying(dies_after=7) as first, dying(word="v") as second, meshwork.connect([first, second]) as mesh:
        got: list[Any] = []
        with pytest.raises(Unavailable, match="begins otherwise") as caught:
            for _ in range(20):  # which of the two is asked first is up to gRPC
                got.clear()
                for piece in mesh.nlp.generate(prompt="x"):
                    got += [piece]
    assert caught.value.reason == "STREAM_CHANGED"
    assert caught.value.metadata["delivered"] == "7"
    assert len(got) == 7


def test_an_answer_that_is_shorter_than_what_was_delivered_is_another_one() -> None:
    resumption = Resumption()
    assert resumption.is_new(nlp_pb2.GenerateResponse(text="a"))
    assert resumption.pause_s(_Lost()) == 0
    with pytest.raises(Unavailable, match="after 1 messages"):
        resumption.end()


def test_what_differs_from_run_to_run_does_not_make_a_message_another() -> None:
    resumption = Resumption()
    last = nlp_pb2.GenerateResponse(text="a", finish_reason=nlp_pb2.FINISH_REASON_END)
    last.served_by.replica = "one"
    last.time_to_first_piece.seconds = 1
    assert resumption.is_new(last)
    resumption.pause_s(_Lost())
    last.served_by.replica = "two"
    last.time_to_first_piece.seconds = 2
    assert not resumption.is_new(last)
    resumption.end()


def test_tries_that_bring_nothing_new_come_to_an_end_and_their_pauses_grow() -> None:
    resumption = Resumption()
    resumption.is_new(nlp_pb2.GenerateResponse(text="a"))
    pauses = [resumption.pause_s(_Lost()) for _ in range(5)]
    assert pauses[0] == 0
    assert pauses[3:] == [None, None]
    assert all(0 < (pause or 0) < 2 for pause in pauses[1:3])


def test_a_stream_that_nobody_can_go_on_with_is_unavailable() -> None:
    with dying(dies_after=3) as only, meshwork.connect(only) as mesh, pytest.raises(Unavailable):
        list(mesh.nlp.generate(prompt="x"))


def test_the_deadline_holds_over_all_tries() -> None:
    with (
        dying(dies_after=3) as first,
        dying() as second,
        meshwork.connect([first, second]) as mesh,
        pytest.raises(DeadlineExceeded),
    ):
        for _ in range(2):
            list(mesh.nlp.generate(prompt="wait", timeout_s=2))


def test_a_stream_that_is_left_is_not_begun_again(recorder: Recorder) -> None:
    recorder.answers["Generate"] = [nlp_pb2.GenerateResponse(text="a")] * 3
    with meshwork.connect(recorder.address) as mesh:
        with contextlib.closing(mesh.nlp.generate(prompt="x")) as pieces:
            next(pieces)
        mesh.nlp.embed("x")
    assert [call.method for call in recorder.calls] == ["Generate", "Embed"]


def test_only_streams_that_answer_from_the_request_alone_are_resumed() -> None:
    methods = {
        method.name: resumable(method)
        for service in ("nlp", "router")
        for method in descriptor(service).methods
        if method.server_streaming
    }
    assert methods == {"Generate": True, "Watch": False, "WatchEvents": False, "WatchLoad": False}


class _Lost(Exception):
    """As grpc raises it when a connection broke."""

    def code(self) -> Any:
        return grpc.StatusCode.UNAVAILABLE
