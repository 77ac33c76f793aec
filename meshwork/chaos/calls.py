"""The light calls that load a mesh: one for each method that its models answer by default."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing

from meshwork.client import AsyncClient
from meshwork.nlp.v1 import nlp_pb2
from meshwork.router.v1 import router_pb2

# A black 1 on white, 16 x 16 pixels, PNG.
_PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAAAAAA6mKC9AAAAFklEQVR42mP4jwYYcAkwMAwfAdy+BQDM9ucZ3IBPvQAAAABJ"
    "RU5ErkJggg=="
)
_TOKENS = 24


class BrokenStream(Exception):
    """A stream ended early, or with another text than before."""


async def _classify(mesh: AsyncClient, timeout_s: float) -> str:
    return (await mesh.vision.classify(_PICTURE, timeout_s=timeout_s)).served_by.replica


async def _embed(mesh: AsyncClient, timeout_s: float) -> str:
    return (await mesh.nlp.embed("a place to sleep", timeout_s=timeout_s)).served_by.replica


async def _voices(mesh: AsyncClient, timeout_s: float) -> str:
    await mesh.speech.list_voices(timeout_s=timeout_s)
    return ""  # the answer does not say


async def _detect(mesh: AsyncClient, timeout_s: float) -> str:
    answer = await mesh.translation.detect_language("good morning to all of you", timeout_s=timeout_s)
    return answer.served_by.replica


async def _recommend(mesh: AsyncClient, timeout_s: float) -> str:
    answer = await mesh.recommendation.recommend(user="chaos", count=3, timeout_s=timeout_s)
    return answer.served_by.replica


class _Writing:
    """Generate, whose text must be the same each time: without a temperature it has no chance in it."""

    def __init__(self) -> None:
        self._text = ""

    async def __call__(self, mesh: AsyncClient, timeout_s: float) -> str:
        text, last = "", nlp_pb2.GenerateResponse()
        stream = mesh.nlp.generate(prompt="the train was", max_output_tokens=_TOKENS, timeout_s=timeout_s)
        async with aclosing(stream) as pieces:  # type: ignore[type-var]  # an async generator
            async for last in pieces:
                text += last.text
        if not last.finish_reason:
            raise BrokenStream(f"the stream ended after {len(text)} characters, before its end")
        self._text = self._text or text
        if text != self._text:
            raise BrokenStream(f"the text was {text[:60]!r} and had been {self._text[:60]!r}")
        return last.served_by.replica


LightCall = Callable[[AsyncClient, float], Awaitable[str]]
"""Calls the mesh within so many seconds; gives the name of the replica that answered, if it says."""

UNARY: dict[str, LightCall] = {
    "vision.Classify": _classify,
    "nlp.Embed": _embed,
    "speech.ListVoices": _voices,
    "translation.DetectLanguage": _detect,
    "recommendation.Recommend": _recommend,
}
STREAMS: dict[str, Callable[[], LightCall]] = {"nlp.Generate": _Writing}


def answered(replicas: Iterable[router_pb2.Replica]) -> list[str]:
    """Those of the calls that these replicas answer, as `service.Method`."""
    methods = {
        f"{replica.service}.{method}"
        for replica in replicas
        for model in replica.models
        if model.state == router_pb2.MODEL_STATE_READY
        for method in model.default_methods
    }
    return [name for name in (*UNARY, *STREAMS) if name in methods]
