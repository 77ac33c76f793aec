"""A pipeline as its card's parameters say it, checked against the contract.

::

    parameters:
      steps:
        - name: digit
          method: vision.Classify
          request: {image: {content: $inputs.image}, top_k: 1}
        - name: words
          method: speech.Synthesize
          request: {text: "$digit.classifications[0].label"}
      outputs: {audio: $words.audio_content}

A step refers to the inputs and to steps above it (`services.pipeline.references`), so that the steps
have no circle. What they refer to says which can run at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from meshwork.contract import SERVICES, descriptor
from meshwork.serving.card import CardError
from services.pipeline.references import INPUTS, Reference, references

STEPS, OUTPUTS = "steps", "outputs"
PIPELINE = "pipeline"
MAX_STEPS = 100
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One call of a pipeline."""

    name: str
    service: str  # for example "vision"
    method: MethodDescriptor
    request: Mapping[str, Any]  # the request's template, by the proto's names
    needs: frozenset[str]  # names of the steps whose answers it takes

    @property
    def path(self) -> str:
        """The method as cards write it: `vision.Classify`."""
        return f"{self.service}.{self.method.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The steps of a pipeline, each below those that it needs."""

    steps: tuple[Step, ...]
    outputs: Mapping[str, Any]  # the template of what the pipeline answers
    inputs: frozenset[str]  # names of the inputs that it takes


def read_plan(parameters: Mapping[str, Any], where: str) -> Plan:
    """The plan in a card's parameters.

    Args:
        where: the card, for errors.

    Raises:
        CardError: it is none; names the step and the field.
    """
    unknown = sorted(set(parameters) - {STEPS, OUTPUTS})
    if unknown:
        raise CardError(f"{where}: parameters.{unknown[0]}: a pipeline has {STEPS} and {OUTPUTS}")
    entries, outputs = parameters.get(STEPS), parameters.get(OUTPUTS)
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_STEPS:
        raise CardError(f"{where}: parameters.{STEPS}: should be a list of 1 to {MAX_STEPS} steps")
    if not isinstance(outputs, dict) or not outputs:
        raise CardError(f"{where}: parameters.{OUTPUTS}: should be a mapping from a name to its value")
    steps: dict[str, Step] = {}
    for index, entry in enumerate(entries):
        step = _step(entry, steps, f"{where}: {STEPS}[{index}]")
        steps[step.name] = step
    found = _checked_references(outputs, steps, f"{where}: {OUTPUTS}")
    for step in steps.values():
        found += references(step.request)
    inputs = {str(each.parts[0]) for each in found if each.root == INPUTS}
    return Plan(steps=tuple(steps.values()), outputs=outputs, inputs=frozenset(inputs))


def _step(entry: Any, above: Mapping[str, Step], where: str) -> Step:
    if not isinstance(entry, dict) or not {"name", "method"} <= set(entry) <= {"name", "method", "request"}:
        raise CardError(f"{where}: should have name, method and request, not {entry!r}")
    name, request = entry["name"], entry.get("request", {})
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == INPUTS or name in above:
        raise CardError(
            f"{where}: name: should match {_NAME.pattern}, be no other step's and not {INPUTS}, not {name!r}"
        )
    where = f"{where} ({name})"
    service, method = _method(entry["method"], f"{where}: method")
    if not isinstance(request, dict):
        raise CardError(f"{where}: request: should be a mapping from a field to its value, not {request!r}")
    found = _checked_references(request, above, f"{where}: request")
    fixed = dict(_fixed(request, method.input_type, f"{where}: request"))
    try:
        json_format.ParseDict(fixed, message_factory.GetMessageClass(method.input_type)())
    except json_format.ParseError as error:
        raise CardError(f"{where}: request: {error}") from error
    needs = frozenset(each.root for each in found if each.root != INPUTS)
    return Step(name=name, service=service, method=method, request=request, needs=needs)


def _method(path: Any, where: str) -> tuple[str, MethodDescriptor]:
    service, _, name = str(path).partition(".")
    able = [each for each in SERVICES if each != PIPELINE]
    if service not in able:
        raise CardError(f"{where}: should be SERVICE.METHOD with one of {', '.join(able)}, not {path!r}")
    methods: Sequence[MethodDescriptor] = descriptor(service).methods
    unary = {each.name: each for each in methods if not each.client_streaming and not each.server_streaming}
    if name not in unary:
        raise CardError(
            f"{where}: should be one of {service}'s unary methods {', '.join(unary)}, not {path!r}"
        )
    return service, unary[name]


def _fixed(template: Mapping[str, Any], message: Descriptor, where: str) -> Iterator[tuple[str, Any]]:
    """The fields of a request's template that refer to nothing; checks that all fields exist."""
    for name, value in template.items():
        field = message.fields_by_name.get(name)
        if field is None:
            there = ", ".join(message.fields_by_name)
            raise CardError(f"{where}.{name}: {message.name} has no such field; it has: {there}")
        inner = field.message_type
        if inner is not None and not _is_free(inner):
            if isinstance(value, dict):
                value = dict(_fixed(value, inner, f"{where}.{name}"))
            elif isinstance(value, list):
                value = [
                    dict(_fixed(entry, inner, f"{where}.{name}[{index}]"))
                    if isinstance(entry, dict)
                    else entry
                    for index, entry in enumerate(value)
                ]
        if not any(references(value)):
            yield name, value


def _is_free(message: Descriptor) -> bool:
    """Whether JSON writes it otherwise than its fields say: a map, a Struct, a Duration."""
    return message.GetOptions().map_entry or message.full_name.startswith("google.protobuf.")


def _checked_references(template: Any, steps: Mapping[str, Step], where: str) -> list[Reference]:
    """The references of a template; each has to lead to an input or into the answer of one of `steps`."""
    try:
        found = list(references(template))
    except ValueError as error:
        raise CardError(f"{where}: {error}") from error
    for each in found:
        if each.root == INPUTS:
            if not each.parts or isinstance(each.parts[0], int):
                raise CardError(f"{where}: {each}: should name an input, for example ${INPUTS}.text")
            continue
        if each.root not in steps:
            there = ", ".join(f"${name}" for name in (INPUTS, *steps))
            raise CardError(f"{where}: {each}: refers to no step above; there are: {there}")
        _check_path(each, steps[each.root].method.output_type, where)
    return found


def _check_path(reference: Reference, message: Descriptor | None, where: str) -> None:
    """Checks that a path leads through fields of the answer that exist."""
    field: FieldDescriptor | None = None
    listed = False
    for at, part in enumerate(reference.parts):
        if message is not None and _is_free(message):
            return
        path = f"{where}: ${reference.path(at)}"
        if isinstance(part, int):
            if not listed:
                raise CardError(f"{path}: is no list, so it has no [{part}]")
            listed = False
            continue
        if listed:
            raise CardError(f"{path}: is a list; say which entry, for example [0]")
        field = message.fields_by_name.get(part) if message is not None else None
        if field is None:
            there = ", ".join(message.fields_by_name) if message is not None else "none"
            raise CardError(f"{path}: has no field {part}; it has: {there}")
        message = field.message_type
        listed = field.is_repeated
