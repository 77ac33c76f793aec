"""Running a plan: each step as soon as the steps that it needs have answered, all under one group.

The first step that fails ends the run with its error and cancels the others, and so does whoever
cancels the run. How a step is called is handed in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf import json_format, message_factory
from google.protobuf.message import Message

from meshwork.errors import FailedPrecondition, InvalidArgument, MeshworkError
from meshwork.retries import REQUEST_ID
from services.pipeline.plan import OUTPUTS, Plan, Step
from services.pipeline.references import INPUTS, Missing, filled

CallStep: TypeAlias = Callable[[Step, Message], Awaitable[Message]]


@dataclass(frozen=True, slots=True)
class Answered:
    """A step that was run."""

    step: Step
    answer: Message
    took_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run that came to its end."""

    outputs: dict[str, Any]
    steps: list[Answered]  # in the plan's order


async def execute(plan: Plan, inputs: Mapping[str, Any], call: CallStep, request_id: str = "") -> Outcome:
    """Runs a plan.

    Args:
        inputs: what `$inputs` refers to, by name.
        call: calls a step's method with a request.
        request_id: handed on, with the step's name, to steps whose requests have one.

    Raises:
        InvalidArgument: an input is missing, or none of the plan's.
        MeshworkError: of the first step that fails; `step` in its metadata names it.
    """
    _check_inputs(plan, inputs)
    values: dict[str, Any] = {INPUTS: dict(inputs)}
    tasks: dict[str, asyncio.Task[Answered]] = {}

    async def run(step: Step) -> Answered:
        for need in step.needs:
            await tasks[need]
        try:
            request = _request(step, values, request_id)
            begun = time.monotonic()
            answer = await call(step, request)
        except MeshworkError as error:
            raise _of_step(error, step) from error.__cause__
        values[step.name] = json_format.MessageToDict(
            answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return Answered(step, answer, time.monotonic() - begun)

    try:
        async with asyncio.TaskGroup() as group:
            for step in plan.steps:
                tasks[step.name] = group.create_task(run(step), name=f"step {step.name}")
    except ExceptionGroup as failed:
        # The first to fail; steps that waited for it follow with the same error.
        raise failed.exceptions[0] from None
    try:
        outputs = filled(plan.outputs, values)
    except Missing as missing:
        raise _missing(missing, OUTPUTS) from None
    return Outcome(outputs, [tasks[step.name].result() for step in plan.steps])


def _check_inputs(plan: Plan, inputs: Mapping[str, Any]) -> None:
    takes = ", ".join(sorted(plan.inputs)) or "none"
    for name in sorted(plan.inputs - set(inputs)):
        raise InvalidArgument(f"is missing; this pipeline takes: {takes}", field=f"{INPUTS}.{name}")
    for name in sorted(set(inputs) - plan.inputs):
        raise InvalidArgument(f"is no input of this pipeline; it takes: {takes}", field=f"{INPUTS}.{name}")


def _request(step: Step, values: Mapping[str, Any], request_id: str) -> Message:
    request = message_factory.GetMessageClass(step.method.input_type)()
    try:
        json_format.ParseDict(filled(step.request, values), request)
    except Missing as missing:
        raise _missing(missing, f"{step.path}'s request") from None
    except (json_format.ParseError, RecursionError) as error:
        raise InvalidArgument(f"a value does not fit {step.path}'s request: {error}") from error
    if request_id and REQUEST_ID in step.method.input_type.fields_by_name and REQUEST_ID not in step.request:
        setattr(request, REQUEST_ID, f"{request_id}.{step.name}")
    return request


def _missing(missing: Missing, taker: str) -> MeshworkError:
    reference, found = missing.reference, missing.reference.path(missing.at)
    lacking = reference.parts[missing.at]
    if reference.root == INPUTS:
        return InvalidArgument(f"has no {lacking}, which {taker} takes", field=found)
    return FailedPrecondition(f"{taker} takes {reference}, but ${found} has no {lacking}")


def _of_step(error: MeshworkError, step: Step) -> MeshworkError:
    """The same error, saying at which step."""
    error.args = (f"step {step.name}: {error}",)
    error.metadata["step"] = step.name
    return error
