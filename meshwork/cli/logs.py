"""`meshwork logs`: the logs of the mesh's processes as one."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import rich_click as click

from meshwork.cli.console import reports_errors
from meshwork.supervisor.home import Home

_STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}")
_TAIL_BYTES = 256 * 1024
_POLL_S = 0.2


def _files(home: Home, service: str) -> list[Path]:
    files = sorted([*(home.root / "logs").glob("*.log"), *home.run_dir.glob("*.log")])
    if not service:
        return files
    return [file for file in files if file.stem == service or file.stem.rpartition("-")[0] == service]


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


def _stamped(file: Path, text: str) -> Iterator[tuple[str, str]]:
    """Each line with the time of the last stamped line up to it, so that a traceback stays together."""
    stamp = ""
    for line in text.splitlines():
        found = _STAMP.match(line)
        stamp = found.group() if found else stamp
        yield stamp, f"{file.stem:>22} | {line}"


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
@reports_errors
def logs(service: str, lines: int, follow: bool) -> None:
    """Show what the mesh's processes logged, all or one SERVICE's.

    SERVICE is a service, a replica's name, `router`, `envoy`, `valkey` or `mesh` (the supervisor).

    \b
    Examples:
      meshwork logs
      meshwork logs nlp -f
    """
    home = Home.from_environment()
    files = _files(home, service)
    if not files and not follow:
        known = sorted({file.stem for file in _files(home, "")})
        raise click.ClickException(
            f"no log of {service or 'a mesh'} in {home.root}; there are: {', '.join(known) or 'none'}"
        )
    positions: dict[Path, int] = {}
    past: list[tuple[str, str]] = []
    for file in files:
        text, positions[file] = _read(file, max(0, _size(file) - _TAIL_BYTES))
        past += _stamped(file, text)
    past.sort(key=lambda entry: entry[0])
    for _, line in past[len(past) - min(lines, len(past)) :]:
        click.echo(line)
    try:
        while follow:
            time.sleep(_POLL_S)
            for file in _files(home, service):
                start = positions.get(file, 0)
                if _size(file) < start:
                    start = 0  # set aside and begun again
                text, positions[file] = _read(file, start)
                for _, line in _stamped(file, text):
                    click.echo(line)
    except KeyboardInterrupt:
        return
