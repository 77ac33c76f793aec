"""Mixed load: what real callers do, bad and impatient ones included, and an operator who moves models."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

from meshwork import AsyncClient
from meshwork.errors import Cancelled, DeadlineExceeded, InvalidArgument, ModelNotFound, Overloaded
from meshwork.recommendation.v1 import recommendation_pb2
from meshwork.router.v1 import router_pb2

SAMPLES = Path(__file__).parents[2] / "samples"
WRITER = "writer"  # the model that generates
MOVED = "moved"  # the model that the operator adds and removes
_WORDS = (
    "train",
    "town",
    "late",
    "again",
    "tea",
    "cake",
    "home",
    "friends",
    "river",
    "bread",
    "night",
    "rain",
)
_READY, _UNLOADED = router_pb2.MODEL_STATE_READY, router_pb2.MODEL_STATE_UNLOADED
_MODEL_WAIT_S = 60.0
_PATIENCE_S = (0.001, 0.04)  # of an impatient caller, from and to


class MixedLoad:
    """Calls of all services through a gateway.

    Attributes:
        ended: how calls ended: `answered`, `refused` with good reason, `left` by an impatient caller,
            or `failed: ...`, which none should.
    """

    def __init__(self, mesh: AsyncClient, admin: AsyncClient, seed: int = 0) -> None:
        self._mesh = mesh
        self._admin = admin
        self._chance = random.Random(seed)
        self._images = [path.read_bytes() for path in sorted(SAMPLES.glob("*.png"))]
        self._recording = (SAMPLES / "hello.wav").read_bytes()
        self._kinds: tuple[tuple[Callable[[], Awaitable[object]], int], ...] = (
            (self._embed, 6),
            (self._sort, 4),
            (self._match, 4),
            (self._look, 8),
            (self._translate, 4),
            (self._recommend, 6),
            (self._speak, 2),
            (self._hear, 1),
            (self._write, 3),
            (self._watch, 1),
            (self._ask_badly, 2),
            (self._leave, 4),
        )
        self.ended: Counter[str] = Counter()

    async def run(self, duration_s: float, callers: int) -> None:
        """Callers that call one after another, until the time is out, and the operator."""
        ends = time.monotonic() + duration_s
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(self._caller(ends))
            group.create_task(self._counted(self._move_a_model))

    async def _caller(self, ends: float) -> None:
        kinds, weights = zip(*self._kinds, strict=True)
        while time.monotonic() < ends:
            await self._counted(self._chance.choices(kinds, weights)[0])

    async def _counted(self, kind: Callable[[], Awaitable[object]]) -> None:
        try:
            await kind()
            self.ended["answered"] += 1
        except Overloaded:
            self.ended["refused"] += 1
        except _Left:
            self.ended["left"] += 1
        except Exception as error:
            self.ended[f"failed: {kind.__name__}: {type(error).__name__}: {error}"[:200]] += 1

    def _text(self) -> str:
        return " ".join(self._chance.choices(_WORDS, k=self._chance.randint(2, 80)))

    async def _embed(self) -> None:
        texts = [self._text() for _ in range(self._chance.randint(1, 8))]
        answer = await self._mesh.nlp.embed(texts)
        assert len(answer.embeddings) == len(texts)

    async def _sort(self) -> None:
        await self._mesh.nlp.classify_text(self._text(), labels=["travel", "food", "friends"])

    async def _match(self) -> None:
        await self._mesh.nlp.match_texts("a place to sleep", [self._text() for _ in range(4)])

    async def _look(self) -> None:
        await self._mesh.vision.classify(self._chance.choice(self._images))

    async def _translate(self) -> None:
        if self._chance.random() < 0.5:
            await self._mesh.translation.detect_language(self._text())
        else:
            await self._mesh.translation.translate_text("good morning", "fr", source_language="en")

    async def _recommend(self) -> None:
        user = f"user-{self._chance.randrange(20)}"
        items = (await self._mesh.recommendation.recommend(user=user)).items
        item = self._chance.choice(items).item
        await self._mesh.recommendation.record_events([recommendation_pb2.Event(user=user, item=item)])
        await self._mesh.recommendation.similar_items(item)

    async def _speak(self) -> None:
        await self._mesh.speech.synthesize("The train is late.")

    async def _hear(self) -> None:
        await self._mesh.speech.recognize(self._recording)

    async def _write(self) -> None:
        stream = self._mesh.nlp.generate(
            model=WRITER, prompt="w1 w2 w3", max_output_tokens=self._chance.randint(4, 32)
        )
        stop_after = self._chance.choice((1, 3, 1000))  # pieces; some callers have read enough
        async with aclosing(stream) as pieces:  # type: ignore[type-var]  # an async generator
            count = 0
            async for _ in pieces:
                count += 1
                if count == stop_after:
                    raise _Left

    async def _watch(self) -> None:
        async with aclosing(self._mesh.router.watch()) as views:  # type: ignore[type-var]
            async for _ in views:
                return

    async def _ask_badly(self) -> None:
        try:
            if self._chance.random() < 0.5:
                await self._mesh.vision.classify(b"no picture at all")
            else:
                await self._mesh.nlp.embed("x", model="no-such-model")
        except (InvalidArgument, ModelNotFound):
            return
        raise AssertionError("a bad request was answered")

    async def _leave(self) -> None:
        """Goes away before the answer: by cancelling, or by a deadline that is too short."""
        patience_s = self._chance.uniform(*_PATIENCE_S)
        if self._chance.random() < 0.5:
            call = asyncio.ensure_future(self._embed())
            await asyncio.wait([call], timeout=patience_s)
            call.cancel()
            await asyncio.wait([call])
            if call.cancelled():
                raise _Left
            await call
            return
        try:
            await self._mesh.nlp.embed(self._text(), timeout_s=patience_s)
        except (DeadlineExceeded, Cancelled) as error:
            raise _Left from error

    async def _move_a_model(self) -> None:
        """Adds a model, uses it, unloads it, has a call load it again, removes it."""
        await self._admin.admin.add_model(MOVED, "nlp", "starter://minilm")
        await self._until(_READY)
        await self._mesh.nlp.embed(self._text(), model=MOVED)
        await self._admin.admin.unload_model(MOVED)
        await self._until(_UNLOADED)
        await self._mesh.nlp.embed(self._text(), model=MOVED)
        await self._admin.admin.remove_model(MOVED)
        await self._until(None)

    async def _until(self, state: router_pb2.ModelState.ValueType | None) -> None:
        await until(self._mesh, MOVED, state)


class _Left(Exception):
    """The caller went away, as it meant to."""


async def until(mesh: AsyncClient, name: str, state: router_pb2.ModelState.ValueType | None) -> None:
    """Waits until nlp's model is in that state; None: until it is not known any more.

    Raises:
        TimeoutError: it did not come to that in a minute.
    """
    async with asyncio.timeout(_MODEL_WAIT_S):
        while True:
            models = await mesh.router.list_models(service="nlp")
            found = [served.model.state for served in models if served.model.name == name]
            if (state is None and not found) or state in found:
                return
            await asyncio.sleep(0.2)
