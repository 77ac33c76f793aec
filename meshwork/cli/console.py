"""What every command prints with: people get colour and tables, programs get JSON."""

from __future__ import annotations

import functools
import io
import json
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import rich_click as click
from google.protobuf import json_format
from google.protobuf.message import Message
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook, RenderResult
from rich.markup import escape

from meshwork.client import DEFAULT_ADDRESS
from meshwork.errors import ConfigError, MeshworkError
from meshwork.supervisor.home import Home, MeshRecord

PIPE_WIDTH = 200  # columns where there is no terminal that has some


# Of what a terminal would obey: all but the end of a line.
CONTROLS = dict.fromkeys((*range(10), *range(11, 32), *range(127, 160)))


class Harmless:
    """Shows what came from outside without what would steer a terminal."""

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._content, options):
            yield segment if segment.control else segment._replace(text=segment.text.translate(CONTROLS))


class _AllHarmless(RenderHook):
    """Replicas, models and callers name themselves: nothing that is printed is trusted."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [Harmless(each) for each in renderables]


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False)
    console.push_render_hook(_AllHarmless())
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


for _stream in (sys.stdout, sys.stderr):
    # Where the terminal's encoding lacks a letter it is shown as \\u and its number, as Python does.
    if isinstance(_stream, io.TextIOWrapper):
        _stream.reconfigure(errors="backslashreplace")

out = _console()
err = _console(stderr=True)

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
address_option = click.option(
    "--address",
    envvar="MESHWORK_ADDRESS",
    default="",
    metavar="HOST:PORT[,...]",
    help="The gateway, or several by comma. By default that of the mesh that runs here, else 127.0.0.1:8080.",
)
router_option = click.option(
    "--router",
    envvar="MESHWORK_ROUTER",
    default="",
    metavar="HOST:PORT[,...]",
    help="A router of the mesh, or several by comma. By default those of the mesh that runs here.",
)


def print_json(value: Any) -> None:
    """Prints plain data as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def as_data(message: Message) -> Any:
    """A message as plain data, by the names that the proto gives its fields."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def gateway_address(address: str) -> str:
    """The address to call: the one given, else that of the mesh that runs here."""
    if address:
        return address
    record = Home.from_environment().running()
    return ",".join(record.gateways or [record.gateway]) if record else DEFAULT_ADDRESS


def running_mesh() -> tuple[Home, MeshRecord]:
    """The mesh that runs in MESHWORK_HOME.

    Raises:
        ClickException: none does.
    """
    home = Home.from_environment()
    record = home.running()
    if record is None:
        raise click.ClickException(f"no mesh runs in {home.root}; start one with `meshwork up -d`")
    return home, record


def router_address(given: str = "") -> str:
    """The routers to ask: the one given, else those of the mesh that runs here, by comma."""
    if given:
        return given
    _, record = running_mesh()
    return ",".join(record.routers or [record.router])


def reports_errors(command: F) -> F:
    """Makes a command end with a sentence and exit status 1 where it would end with our errors."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except MeshworkError as error:
            if kwargs.get("as_json"):
                print_json(
                    {
                        "error": {
                            "code": error.code.name,
                            "reason": error.reason,
                            "message": str(error),
                            "metadata": error.metadata,
                            "trace_id": error.trace_id,
                        }
                    }
                )
            else:
                err.print(f"[bold red]{error.code.name}[/] {escape(str(error))}")
                if error.retry_after_s is not None:
                    err.print(f"Try again in {error.retry_after_s:.2g} s.")
                if error.trace_id:
                    err.print(f"Its trace: meshwork trace show {error.trace_id}", style="dim")
            raise SystemExit(1) from error
        except ConfigError as error:
            err.print(f"[bold red]The configuration can't be used[/]\n{escape(str(error))}")
            raise SystemExit(2) from error
        except UnicodeEncodeError as error:
            # Bytes that are no text stand in arguments as lone surrogates.
            raise click.UsageError(f"{error.object!r} is not UTF-8 text") from error
        except BrokenPipeError:
            # The reader of a pipe left; there is nobody to tell.
            os._exit(0)

    return wrapped  # type: ignore[return-value]
