from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.protobuf.message import Message

from meshwork.errors import FailedPrecondition, InvalidArgument, Overloaded
from meshwork.recommendation.v1 import recommendation_pb2
from meshwork.speech.v1 import speech_pb2
from meshwork.vision.v1 import vision_pb2
from services.pipeline.execution import execute
from services.pipeline.plan import Plan, Step, read_plan

SEE = {"method": "vision.Classify", "request": {"image": {"content": "$inputs.image"}, "top_k": 1}}
SAY = {"method": "speech.Synthesize", "request": {"text": "a $left.classifications[0].label!"}}
SEVEN = vision_pb2.ClassifyResponse(classifications=[{"label": "7", "score": 0.5}])
SOUND = speech_pb2.SynthesizeResponse(audio_content=b"RIFF")


def plan(*steps: dict[str, Any], **outputs: Any) -> Plan:
    return read_plan({"steps": list(steps), "outputs": outputs}, "card.yaml")


TWO_AND_ONE = plan(
    {"name": "left", **SEE},
    {"name": "right", **SEE},
    {"name": "words", **SAY},
    audio="$words.audio_content",
    score="$left.classifications[0].score",
)


def calls(**answers: Any) -> tuple[Callable[[Step, Message], Awaitable[Message]], dict[str, Any]]:
    """A call function that answers each step with a message or an error, and what it was called with."""
    seen: dict[str, Any] = {}

    async def call(step: Step, request: Message) -> Message:
        seen[step.name] = request
        await asyncio.sleep(0)
        answer = answers[step.name]
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    return call, seen


async def test_answers_go_into_requests_and_outputs_bytes_as_base64() -> None:
    call, seen = calls(left=SEVEN, right=SEVEN, words=SOUND)
    outcome = await execute(TWO_AND_ONE, {"image": "YWJj"}, call)
    assert seen["left"] == vision_pb2.ClassifyRequest(image={"content": b"abc"}, top_k=1)
    assert seen["words"] == speech_pb2.SynthesizeRequest(text="a 7!")
    assert outcome.outputs == {"audio": "UklGRg==", "score": 0.5}
    assert [each.step.name for each in outcome.steps] == ["left", "right", "words"]


async def test_steps_that_need_nothing_of_each_other_run_at_once_and_others_wait() -> None:
    both, running = asyncio.Event(), set()

    async def call(step: Step, request: Message) -> Message:
        running.add(step.name)
        if step.name == "words":
            return SOUND
        if {"left", "right"} <= running:
            both.set()
        await both.wait()
        assert "words" not in running
        return SEVEN

    async with asyncio.timeout(10):
        await execute(TWO_AND_ONE, {"image": "YWJj"}, call)


async def test_the_step_that_fails_gives_its_error_and_ends_the_others() -> None:
    ended = asyncio.Event()

    async def call(step: Step, request: Message) -> Message:
        if step.name == "left":
            raise Overloaded("full", retry_after_s=2.0)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    with pytest.raises(Overloaded, match=r"^step left: full$") as failed:
        await execute(TWO_AND_ONE, {"image": "YWJj"}, call)
    assert (failed.value.metadata["step"], failed.value.retry_after_s) == ("left", 2.0)
    assert ended.is_set()


async def test_cancelling_the_run_cancels_its_steps() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def call(step: Step, request: Message) -> Message:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    run = asyncio.create_task(execute(TWO_AND_ONE, {"image": "YWJj"}, call))
    await begun.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert ended.is_set()


@pytest.mark.parametrize(
    ("inputs", "field"), [({}, "inputs.image"), ({"image": "YWJj", "imgae": 1}, "inputs.imgae")]
)
async def test_inputs_that_are_missing_or_unknown_fail_before_any_step(inputs: Any, field: str) -> None:
    call, seen = calls()
    with pytest.raises(InvalidArgument, match="takes: image") as failed:
        await execute(TWO_AND_ONE, inputs, call)
    assert failed.value.field == field
    assert not seen


async def test_a_value_that_does_not_fit_the_request_names_the_step() -> None:
    call, _ = calls()
    with pytest.raises(InvalidArgument, match=r"step (left|right): .*vision.Classify") as failed:
        await execute(TWO_AND_ONE, {"image": [1]}, call)
    assert failed.value.metadata["step"] in ("left", "right")


async def test_an_answer_that_lacks_what_a_step_takes_says_what() -> None:
    call, _ = calls(left=vision_pb2.ClassifyResponse(), right=SEVEN)
    with pytest.raises(FailedPrecondition, match=r"step words: .*\$left.classifications has no 0"):
        await execute(TWO_AND_ONE, {"image": "YWJj"}, call)


async def test_an_input_without_the_part_that_is_taken_is_named() -> None:
    deep = plan({"name": "say", "method": "speech.Synthesize", "request": {"text": "$inputs.a.b"}}, out=1)
    call, _ = calls()
    with pytest.raises(InvalidArgument, match="has no b") as failed:
        await execute(deep, {"a": {"c": 1}}, call)
    assert failed.value.field == "inputs.a"


async def test_each_step_that_takes_a_request_id_has_its_own() -> None:
    record = {
        "method": "recommendation.RecordEvents",
        "request": {"events": [{"user": "$inputs.user", "item": "$inputs.item"}]},
    }
    both = plan({"name": "one", **record}, {"name": "two", **record}, n="$one.recorded_count")
    answer = recommendation_pb2.RecordEventsResponse(recorded_count=1)
    call, seen = calls(one=answer, two=answer)
    outcome = await execute(both, {"user": "u", "item": "i"}, call, "mine")
    assert [seen[name].request_id for name in ("one", "two")] == ["mine.one", "mine.two"]
    assert outcome.outputs == {"n": 1}
