"""The live view's keys, on a terminal of 80 x 24 without a mesh behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from meshwork.errors import NotFound
from meshwork.router.v1 import router_pb2
from meshwork.top.app import Paper, Top
from meshwork.top.view import Picture
from meshwork.trace.v1 import trace_pb2
from tests.unit.top.test_view import picture, replica

SIZE = (80, 24)


class Told:
    """Tells what it is given, in turn."""

    router = "127.0.0.1:9000"

    def __init__(self, *pictures: Picture | str) -> None:
        self.coming: asyncio.Queue[Picture | str] = asyncio.Queue()
        for each in pictures:
            self.coming.put_nowait(each)
        self.asked: list[tuple[str, str]] = []

    async def pictures(self) -> AsyncIterator[Picture | str]:
        while True:
            yield await self.coming.get()

    async def slowest(self, service: str, replica: str) -> tuple[trace_pb2.GetTraceResponse, str]:
        self.asked.append((service, replica))
        if service == "nlp":
            raise NotFound("no trace of nlp", kind="trace")
        found = trace_pb2.GetTraceResponse()
        found.summary.trace_id = "0af7651916cd43dd8448eb211c80319c"
        found.summary.services.append("vision")
        found.summary.duration.FromMilliseconds(90)
        found.spans.add(span_id="1", name="meshwork.forward", service="vision", instance=replica)
        return found, f"the slowest of {replica}"


def mesh() -> Picture:
    nlp = replica("nlp-1", "nlp", model="minilm")
    nlp.ejection.reason = router_pb2.EJECTION_REASON_SLOW
    nlp.ejection.detail = "98 ms an item where its peers need 9"
    found = picture({"vision-1": 9.0, "vision-2": 90.0, "vision-3": 10.0}, nlp=nlp)
    event = router_pb2.Event(
        kind=router_pb2.EVENT_KIND_ANOMALY, subject="vision-2", message="slow beside its peers"
    )
    return Picture(mesh=found.mesh, replicas=found.replicas, load=found.load, events=(event,))


def names(app: Top) -> list[str]:
    table = app.query_one(DataTable)
    return [str(table.get_row_at(index)[0]) for index in range(table.row_count)]


def words(app: Top) -> str:
    """All that stands on the screen."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


async def shown(pilot: Pilot[None], app: Top, text: str) -> None:
    async with asyncio.timeout(20):
        while text not in words(app):
            await pilot.pause(0.01)


async def test_everything_is_on_80_by_24() -> None:
    app = Top(Told(mesh()))
    async with app.run_test(size=SIZE) as pilot:
        await shown(pilot, app, "slow beside its peers")
        await shown(pilot, app, "q Quit")
        lines = words(app).split("\n")
        assert len(lines) == 24
        heads = next(line for line in lines if "CALLS/S" in line)
        assert all(head in heads for head in ("NAME", "STATE", "ERR/S", "P50ms", "P99ms", "QUEUE", "DEVICE"))
        assert "4/4 replicas ready, 1 ejected, 30.0 calls/s, 0.5 errors/s" in lines[1]
        row = next(line for line in lines if line.startswith("vision-2"))
        assert row.split() == ["vision-2", "ready", "10.0", ".", "90.0", "180", ".", ".", "0%", "cpu"]
        assert [*filter(None, lines)][-1].split()[-2:] == ["q", "Quit"]


async def test_keys_sort_turn_and_filter() -> None:
    app = Top(Told(mesh()))
    async with app.run_test(size=SIZE) as pilot:
        await shown(pilot, app, "vision-3")
        assert names(app) == ["nlp-1", "vision-1", "vision-2", "vision-3"]
        await pilot.press("s", "s", "s")
        assert names(app) == ["vision-2", "vision-3", "vision-1", "nlp-1"]
        assert "P50ms▼" in words(app)
        await pilot.press("r")
        assert names(app)[0] == "nlp-1"
        await pilot.press("slash", *"nlp", "enter")
        assert names(app) == ["nlp-1"]
        assert "having 'nlp'" in words(app)
        await pilot.press("escape")
        assert len(names(app)) == 4


async def test_numbers_show_models_and_services_and_enter_leads_to_their_replicas() -> None:
    app = Top(Told(mesh()))
    async with app.run_test(size=SIZE) as pilot:
        await shown(pilot, app, "vision-3")
        await pilot.press("3")
        assert names(app) == ["nlp", "vision"]
        await pilot.press("2")
        assert names(app) == ["minilm@1", "digits@1"]
        await pilot.press("down", "enter")
        assert names(app) == ["vision-1", "vision-2", "vision-3"]


async def test_the_cursor_stays_on_its_row_when_others_come() -> None:
    told = Told(mesh())
    app = Top(told)
    async with app.run_test(size=SIZE) as pilot:
        await shown(pilot, app, "vision-3")
        await pilot.press("down", "down")
        assert app.row is not None
        assert app.row.name == "vision-2"
        told.coming.put_nowait(picture({"vision-0": 1.0, "vision-2": 9.0}))
        await shown(pilot, app, "vision-0")
        assert app.row.name == "vision-2"


async def test_enter_opens_a_replica_and_escape_closes_it() -> None:
    told = Told(mesh())
    app = Top(told)
    async with app.run_test(size=SIZE) as pilot:
        await shown(pilot, app, "vision-3")
        await pilot.press("enter")
        await shown(pilot, app, "kept from traffic as slow")
        assert "98 ms an item where its peers need 9" in " ".join(words(app).split())
        assert "minilm@1" in words(app)
        told.coming.put_nowait(picture({"vision-1": 9.0}))
        await shown(pilot, app, "holds no lease any more")
        await pilot.press("escape")
        assert not isinstance(app.screen, Paper)


async def test_t_draws_the_slowest_trace_of_the_row_or_says_that_there_is_none() -> None:
    told = Told(mesh())
    app = Top(told)
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await shown(pilot, app, "vision-3")
        await pilot.press("t")
        await shown(pilot, app, "no trace of nlp")
        await pilot.press("down", "down", "t")
        await shown(pilot, app, "the slowest of vision-2")
        assert told.asked == [("nlp", "nlp-1"), ("vision", "vision-2")]
        assert "forward" in words(app)
        await pilot.press("escape")
        assert not isinstance(app.screen, Paper)


async def test_a_router_that_is_away_is_said_and_the_last_rows_stay() -> None:
    told = Told("127.0.0.1:9000 does not answer: gone")
    app = Top(told)
    async with app.run_test(size=SIZE) as pilot:
        await shown(pilot, app, "does not answer: gone")
        told.coming.put_nowait(mesh())
        await shown(pilot, app, "vision-3")
        told.coming.put_nowait("[gone] does not answer")
        await shown(pilot, app, "[gone] does not answer")
        assert len(names(app)) == 4


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
@pytest.mark.parametrize("before", [(), ("enter",), ("slash",)])
async def test_it_ends_at_once(key: str, before: tuple[str, ...]) -> None:
    if before == ("slash",) and key == "q":
        return  # a letter of the filter
    app = Top(Told(mesh()))
    async with app.run_test(size=SIZE) as pilot:
        await shown(pilot, app, "vision-3")
        await pilot.press(*before, key)
        async with asyncio.timeout(20):
            while app.is_running:
                await asyncio.sleep(0.01)
    assert app.return_code == 0


async def test_texts_from_outside_are_no_markup() -> None:
    odd = replica("[bold]x[/]\x1b[31m", "[red]")
    odd.ejection.detail = "[/nope]"
    app = Top(Told(picture({"vision-1": 1.0}, odd=odd)))
    async with app.run_test(size=SIZE) as pilot:
        await shown(pilot, app, "[bold]x[/]")
        await pilot.press("enter")
        await shown(pilot, app, "[/nope]")
        assert "\x1b" not in words(app)
        assert app.screen.query_one(Static)
