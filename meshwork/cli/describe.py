"""`meshwork config`: what the mesh was told."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from meshwork import config
from meshwork.cli.console import (
    json_option,
    out,
    reports_errors,
)
from meshwork.supervisor.home import Home


@click.group(name="config")
def config_group() -> None:
    """Show and check `mesh.yaml`, the file that says what a mesh runs."""


@config_group.command()
@json_option
@reports_errors
def show(as_json: bool) -> None:
    """Print the configuration of the mesh that runs here, or the embedded default.

    \b
    Example:
      meshwork config show > mesh.yaml
    """
    record = Home.from_environment().running()
    settings = config.from_json(record.config) if record else config.read()
    if as_json:
        click.echo(config.to_json(settings))
    elif settings == config.read():
        click.echo(config.DEFAULT_FILE.read_text(encoding="utf-8"), nl=False)
    else:
        click.echo(config.to_yaml(settings), nl=False)


@config_group.command()
@click.argument("file", type=click.Path(path_type=Path))
@reports_errors
def check(file: Path) -> None:
    """Say whether FILE can be used, and name each line that is wrong."""
    settings = config.read(file)
    where = ", ".join(settings.gateway.addresses)
    out.print(f"{file} is good: {len(settings.services)} services, gateway on {where}")
