"""`meshwork logs`: the logs of the mesh's processes as one."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import rich_click as click
from rich.text import Text

from meshwork import logs as lines_of
from meshwork.cli.console import out, reports_errors, running_mesh
from meshwork.errors import Unavailable
from meshwork.names import trace_id
from meshwork.state.connect import REDIS_AWAY, connect
from meshwork.state.keys import Keys
from meshwork.state.log_levels import LogLevels
from meshwork.supervisor.home import Home

# Envoy and Valkey write their own; theirs is local time.
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d|\d\d \w{3} \d{4}) (\d\d:\d\d:\d\d)[.,](\d{3})")
_TAIL_BYTES = 256 * 1024
_POLL_S = 0.2
_COLOURS = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "bold red"}


@dataclass(frozen=True, slots=True)
class _Entry:
    """One event, however many lines it takes."""

    time: str
    file: str
    line: lines_of.Line
    raw: str


def _files(home: Home, service: str) -> list[Path]:
    files = sorted([*(home.root / "logs").glob("*.log"), *home.run_dir.glob("**/*.log")])
    if not service:
        return files
    return [file for file in files if service in (_name(file), _name(file).rpartition("-")[0])]


def _name(file: Path) -> str:
    """Of which process it is: `nlp-1f3a`, `router-2`; that of the Envoy in `run/router-2` is `envoy-2`."""
    folder = file.parent.name
    return file.stem + (folder.removeprefix("router") if folder.startswith("router-") else "")


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # set aside just now


def _read(file: Path, start: int) -> tuple[str, int]:
    """The whole lines from the byte `start` on, and where the next one begins."""
    try:
        with file.open("rb") as stream:
            stream.seek(start)
            content = stream.read()
    except OSError:
        return "", 0
    whole = content[: content.rfind(b"\n") + 1]  # the rest is still being written
    return whole.decode("utf-8", "replace"), start + len(whole)


def _entries(file: Path, text: str) -> Iterator[_Entry]:
    """Each line with its time, or that of the line before it, so that what belongs together stays so."""
    stamp = ""
    for raw in text.splitlines():
        line = lines_of.read(raw)
        stamp = line.time or _stamp(raw) or stamp
        yield _Entry(stamp, _name(file), line, raw)


def _stamp(raw: str) -> str:
    """The time in a line that another program wrote, as ours have it; "" if there is none."""
    found = _STAMP.search(raw[:80])
    if found is None:
        return ""
    day, clock, milliseconds = found.groups()
    form = "%Y-%m-%d %H:%M:%S" if day[4] == "-" else "%d %b %Y %H:%M:%S"
    try:
        local = datetime.strptime(f"{day} {clock}", form).astimezone(UTC)
    except ValueError:
        return ""
    return f"{local:%Y-%m-%dT%H:%M:%S}.{milliseconds}"


def _show(entry: _Entry, as_json: bool) -> None:
    line = entry.line
    if as_json:
        known = json.loads(entry.raw) if line.time else {"time": entry.time, "event": entry.raw}
        click.echo(json.dumps({"file": entry.file, **known}, ensure_ascii=False))
        return
    level = line.level.upper() if line.level not in ("", "info") else ""
    for number, text in enumerate(line.text.splitlines() or [""]):
        shown = Text(f"{entry.time[11:23]:12} {entry.file:>22} | ", style="dim", end="")
        shown.append(f"{level} " if level and not number else "", style=_COLOURS.get(line.level, ""))
        shown.append(text, style=_COLOURS.get(line.level, "") if level else "not dim")
        if line.trace_id and not number:
            shown.append(f"  trace {line.trace_id}", style="dim")
        out.print(shown, soft_wrap=True)


@click.command()
@click.argument("service", default="")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    help="Lines to show of the past.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines as they come; Ctrl-C ends.")
@click.option("--trace", default="", metavar="ID", help="Only lines of this trace.")
@click.option(
    "--level",
    type=click.Choice(lines_of.LEVELS),
    default=None,
    help="Only lines that matter at least as much.",
)
@click.option(
    "--set-level",
    type=click.Choice([*lines_of.LEVELS, "default"]),
    default=None,
    help="Have SERVICE (a service, a replica or `router`) log at this level from now on.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each line as JSON, for programs.")
@reports_errors
def logs(
    service: str,
    lines: int,
    follow: bool,
    trace: str,
    level: str | None,
    set_level: str | None,
    as_json: bool,
) -> None:
    """Show what the mesh's processes logged, all or one SERVICE's, in the order in which it happened.

    SERVICE is a service, a replica's name, `router`, `envoy` (all gateways;
    `envoy-2` is the one of `router-2`), `valkey` or `mesh` (the supervisor).
    Times are UTC. `meshwork trace show ID` draws the trace that a line names.

    \b
    Examples:
      meshwork logs
      meshwork logs nlp -f
      meshwork logs --trace 0af7651916cd43dd8448eb211c80319c
      meshwork logs nlp --set-level debug
    """
    if set_level is not None:
        asyncio.run(_set_level(service, set_level))
        return
    home = Home.from_environment()
    files = _files(home, service)
    if not files and not follow:
        known = sorted({_name(file) for file in _files(home, "")})
        raise click.ClickException(
            f"no log of {service or 'a mesh'} in {home.root}; there are: {', '.join(known) or 'none'}"
        )
    wanted = trace_id(trace.strip().lower())
    least = lines_of.LEVELS.index(level) if level else 0

    def fits(entry: _Entry) -> bool:
        matters = entry.line.level not in lines_of.LEVELS or lines_of.LEVELS.index(entry.line.level) >= least
        return matters and (not wanted or entry.line.trace_id == wanted)

    positions: dict[Path, int] = {}
    past: list[_Entry] = []
    for file in files:
        # All of them for one trace: it may be long ago.
        text, positions[file] = _read(file, 0 if wanted else max(0, _size(file) - _TAIL_BYTES))
        past += filter(fits, _entries(file, text))
    past.sort(key=lambda entry: entry.time)
    for entry in past[len(past) - min(lines, len(past)) :]:
        _show(entry, as_json)
    try:
        while follow:
            time.sleep(_POLL_S)
            fresh: list[_Entry] = []
            for file in _files(home, service):
                start = positions.get(file, 0)
                if _size(file) < start:
                    start = 0  # set aside and begun again
                text, positions[file] = _read(file, start)
                fresh += filter(fits, _entries(file, text))
            for entry in sorted(fresh, key=lambda entry: entry.time):
                _show(entry, as_json)
    except KeyboardInterrupt:
        return


async def _set_level(name: str, level: str) -> None:
    if not name:
        raise click.UsageError("--set-level needs a SERVICE: a service, a replica's name or `router`")
    _, record = running_mesh()
    redis = connect(record.redis_url)
    try:
        await LogLevels(redis, Keys(mesh=record.name)).set(name, "" if level == "default" else level)
    except REDIS_AWAY as error:
        raise Unavailable(f"Redis, which keeps the levels, does not answer: {error}") from error
    finally:
        await redis.aclose()
    out.print(f"{name} logs at {level if level != 'default' else 'the level it started with'} from now on.")
