"""The `meshwork` command."""

from __future__ import annotations

import importlib

import rich_click as click

import meshwork

# Imported when they are asked for, so that each command starts fast.
COMMANDS = {
    "up": "mesh:up",
    "down": "mesh:down",
    "status": "mesh:status",
    "logs": "logs:logs",
    "events": "events:events",
    "scale": "mesh:scale",
    "drain": "replicas:drain",
    "restart": "replicas:restart",
    "xds": "xds:xds",
    "call": "call:call",
    "chaos": "chaos:chaos",
    "models": "models:models",
    "trace": "trace:trace",
    "top": "top:top",
    "config": "describe:config_group",
}


class _Commands(click.RichGroup):
    """The subcommands, in the order in which a newcomer meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"meshwork.cli.{module}"), name)
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(meshwork.__version__, prog_name="meshwork")
def main() -> None:
    """AI models as typed gRPC services: run a mesh, call it, look into it.

    \b
    Begin with:
      meshwork up                                    run everything in this terminal
      meshwork call vision classify samples/seven.png
      meshwork status
    """


if __name__ == "__main__":
    main()
