"""The live view over a router of its own, with light replicas that count for real."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator

import pytest

from meshwork import connect_async
from meshwork.errors import MeshworkError
from meshwork.top.app import Paper, Top
from meshwork.top.feed import Feed
from tests.mesh.gateway.conftest import WAIT_S, Mesh
from tests.unit.serving.test_models import write_card
from tests.unit.top.test_app import words


@pytest.fixture
async def counted(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    folder = tmp_path_factory.mktemp("mesh")
    mesh = Mesh(folder)
    models = json.dumps([{"source": write_card(folder, "echo", "1", methods="[Embed]")}])
    mesh.environment |= {
        "MESHWORK_MODELS": models,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{mesh.router_address}",
    }
    try:
        mesh.start_router()
        for name in ("nlp-1", "nlp-2"):
            mesh.start(name, "-m", "tests.unit.tiny_service", MESHWORK_REPLICA=name)
        yield mesh
    finally:
        mesh.stop()


async def _load(mesh: Mesh) -> None:
    """Calls until cancelled."""
    async with connect_async(mesh.gateway) as client:
        while True:
            try:
                traced = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
                await client.nlp.embed("one", metadata=(("traceparent", traced),))
            except MeshworkError:
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.01)


async def test_top_shows_what_replicas_count_and_outlives_its_router(counted: Mesh) -> None:
    app = Top(Feed(counted.router_address))
    calling = asyncio.create_task(_load(counted))
    try:
        async with app.run_test(size=(80, 24)) as pilot, asyncio.timeout(2 * WAIT_S):
            while sum(row.load.calls_rps > 0 and row.load.p99_ms > 0 for row in app._shown) < 2:
                await pilot.pause(0.05)
            assert [(row.name, row.state, row.device) for row in app._shown] == [
                ("nlp-1", "ready", "cpu"),
                ("nlp-2", "ready", "cpu"),
            ]
            assert all(row.load.errors_rps == 0 for row in app._shown)
            await pilot.press("2")
            assert [(row.name, row.state) for row in app._shown] == [("echo@1", "2/2")]
            model = app._shown[0].load
            assert model.calls_rps > 0
            assert model.batch_items >= 1
            await pilot.press("1", "down")
            # The spans of the other replica may come first: then it is the slowest of both that is shown.
            while "the slowest of nlp-2" not in words(app):
                if isinstance(app.screen, Paper):
                    await pilot.press("escape")
                await pilot.press("t")
                await pilot.pause(0.5)
            assert "forward" in words(app)
            await pilot.press("escape")
            counted.kill("router")
            while not app._problem:
                await pilot.pause(0.05)
            assert "does not answer" in app._problem
            counted.start_router()
            while app._problem:
                await pilot.pause(0.05)
            await pilot.press("q")
    finally:
        calling.cancel()
    assert app.return_code == 0
