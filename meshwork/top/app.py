"""The full-screen terminal view: a table of what runs, what is odd, and screens for one thing each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar, Protocol

from rich.console import Group, RenderableType
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Input, Static

from meshwork.cli.console import Harmless
from meshwork.cli.events import lines_of
from meshwork.cli.tables import clock
from meshwork.cli.waterfall import NARROWEST, head, waterfall
from meshwork.errors import MeshworkError
from meshwork.top.detail import detail
from meshwork.top.view import (
    COLUMNS,
    SORTS,
    Picture,
    Row,
    View,
    brief,
    cells,
    fitting,
    in_order,
    notable,
    rows,
    summary,
)
from meshwork.trace.v1 import trace_pb2

ODD_LINES = 5  # anomalies, ejections and warnings below the table


class Source(Protocol):
    """Where it all comes from; `Feed` is one."""

    router: str

    def pictures(self) -> AsyncIterator[Picture | str]:
        """What there is, again and again; text where it can't be told."""

    async def slowest(self, service: str, replica: str) -> tuple[trace_pb2.GetTraceResponse, str]:
        """The slowest recent trace, and of what it is the slowest."""


class Paper(Screen[None]):
    """Something to read; Escape closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace,enter", "app.pop_screen", "Back", key_display="esc"),
        Binding("t", "app.trace", "Slowest trace"),
        Binding("q", "app.quit", "Quit"),
    ]

    def __init__(self, row: Row | None = None) -> None:
        super().__init__()
        self.row = row
        self._text = Static("", id="text")

    def compose(self) -> ComposeResult:
        """A text that scrolls."""
        with VerticalScroll():
            yield self._text
        yield Static("esc back   t slowest trace   q quit", id="keys")

    def write(self, content: RenderableType) -> None:
        """Shows `content`."""
        self._text.update(Harmless(content))


class Top(App[None]):
    """The view.

    Args:
        source: what is shown.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 2; }
    #keys { dock: bottom; height: 1; color: $text-muted; }
    #table { height: 1fr; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0; }
    #filter { display: none; height: 1; border: none; padding: 0; }
    Footer { scrollbar-size-horizontal: 0; }
    #odd { height: auto; max-height: 6; border-top: solid $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "view('replicas')", "Replicas"),
        Binding("2", "view('models')", "Models"),
        Binding("3", "view('services')", "Services"),
        Binding("s", "sort", "Sort"),
        Binding("r", "turn", "Turn"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("escape", "all", "All", show=False),
        Binding("enter", "open", "Open", show=True),
        Binding("t", "trace", "Trace"),
        Binding("e", "events", "Events"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
    ]

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._picture: Picture | None = None
        self._problem = f"asking {source.router}"
        self._view = View.REPLICAS
        self._sort, self._falling = SORTS[0], False
        self._words = ""
        self._shown: list[Row] = []
        self._head = Static("", id="head")
        self._table: DataTable[Text] = DataTable(id="table", cursor_type="row", cell_padding=0)
        self._filter = Input(id="filter", placeholder="words of a name, service, model, state or device")
        self._odd = Static("", id="odd")

    def compose(self) -> ComposeResult:
        """From the top: the mesh, the table, the filter while it is typed, what is odd, the keys."""
        yield self._head
        yield self._table
        yield self._filter
        yield self._odd
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Begins to ask."""
        for column in COLUMNS:
            self._table.add_column(column.head, width=column.width, key=column.head)
        self._table.focus()
        self._draw()
        self.run_worker(self._follow(), name="feed")

    async def _follow(self) -> None:
        async for told in self._source.pictures():
            if isinstance(told, str):
                self._problem = told
            else:
                self._picture, self._problem = told, ""
            self._draw()

    def _draw(self) -> None:
        self._head.update(self._headline())
        if self._picture is None:
            return
        found = fitting(rows(self._picture, self._view), self._words, self._picture.replicas)
        before = self.row
        self._shown = in_order(found, self._sort, falling=self._falling)
        self._table.clear()
        for column in COLUMNS:
            mark = ("▼" if self._falling else "▲") if column is self._sort else ""
            head_of = Text(
                f"{column.head}{mark}"[-column.width :], justify="right" if column.numeric else "left"
            )
            self._table.columns[_key(self._table, column.head)].label = head_of
        for row in self._shown:
            self._table.add_row(*cells(row), key=row.key)
        # The cursor stays on what it was on, wherever that is now.
        at = next((index for index, row in enumerate(self._shown) if before and row.key == before.key), 0)
        self._table.move_cursor(row=at)
        odd = [brief(event) for event in notable(self._picture.events, ODD_LINES)]
        self._odd.update(Harmless(Group(*odd)) if odd else Text("nothing odd", style="dim"))
        screen = self.screen
        if isinstance(screen, Paper) and screen.row is not None:
            screen.write(detail(self._picture, screen.row))

    def _headline(self) -> Text:
        title = Text(no_wrap=True, overflow="ellipsis")
        if self._picture is not None:
            mesh = self._picture.mesh
            title.append(f"mesh {mesh.name}", style="bold")
            title.append(f"  router {mesh.router.name}{' leads' if mesh.router.leader else ''}  ")
            title.append(clock(self._picture.load.time))
            title.append(f"  {self._view.value}", style="bold")
            title.append(f" having {self._words!r}" if self._words else "")
            if mesh.state.stale and not self._problem:
                return title.append(f"\nState is stale: {mesh.state.problem}", style="bold red")
        if self._problem:
            return title.append(f"\n{self._problem}", style="bold red" if self._picture else "yellow")
        assert self._picture is not None
        return title.append(f"\n{summary(self._picture)}")

    @property
    def row(self) -> Row | None:
        """The row that the cursor is on."""
        at = self._table.cursor_row
        return self._shown[at] if 0 <= at < len(self._shown) else None

    def action_view(self, name: str) -> None:
        """Shows replicas, models or services."""
        self._view = View(name)
        self._draw()

    def action_sort(self) -> None:
        """Sorts by the next column; figures with the largest first."""
        self._sort = SORTS[(SORTS.index(self._sort) + 1) % len(SORTS)]
        self._falling = self._sort.numeric
        self._draw()

    def action_turn(self) -> None:
        """Turns the order around."""
        self._falling = not self._falling
        self._draw()

    def action_filter(self) -> None:
        """Lets words be typed."""
        self._filter.display = True
        self._filter.focus()

    def action_all(self) -> None:
        """Shows all again."""
        self._filter.value = self._words = ""
        self._filter.display = False
        self._table.focus()
        self._draw()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filters while it is typed."""
        self._words = event.value
        self._draw()

    def on_input_submitted(self) -> None:
        """Leaves the filter as it is."""
        self._filter.display = False
        self._table.focus()

    def on_data_table_row_selected(self) -> None:
        """Enter, or a click."""
        self.action_open()

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """Sorts by the column whose head was clicked; a second click turns the order around."""
        column = next((each for each in SORTS if each.head == event.column_key.value), None)
        if column is None:
            return
        self._falling = not self._falling if column is self._sort else column.numeric
        self._sort = column
        self._draw()

    def action_open(self) -> None:
        """Opens a replica; of a model or service, shows the replicas."""
        row = self.row
        if row is None or self._picture is None:
            return
        if row.replica:
            paper = Paper(row)
            self.push_screen(paper)
            paper.write(detail(self._picture, row))
            return
        self._filter.value = self._words = f"{row.service}/ {row.model}".strip()
        self._view = View.REPLICAS
        self._draw()

    def action_events(self) -> None:
        """Shows the last events."""
        if self._picture is None:
            return
        paper = Paper()
        self.push_screen(paper)
        paper.write(Group(*reversed(list(lines_of(list(self._picture.events))))))

    def action_trace(self) -> None:
        """Shows the slowest recent trace of what the cursor is on, or of what is open."""
        row = self.screen.row if isinstance(self.screen, Paper) else self.row
        self.run_worker(self._trace(row), exclusive=True, group="trace")

    async def _trace(self, row: Row | None) -> None:
        try:
            found, what = await self._source.slowest(row.service if row else "", row.replica if row else "")
        except MeshworkError as error:
            self.notify(str(error), severity="warning", markup=False)
            return
        width = max(NARROWEST, self.size.width // 3)
        note = Text(f"{what}; `meshwork trace show {found.summary.trace_id[:8]}...` has more", style="dim")
        paper = Paper()
        await self.push_screen(paper)
        paper.write(Group(head(found), note, "", waterfall(found, width=width)))


def _key(table: DataTable[Text], name: str) -> Any:
    return next(key for key in table.columns if key.value == name)
