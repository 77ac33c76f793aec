"""`meshwork models` and `meshwork config`: what there is, and what the mesh was told."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from meshwork import client, config
from meshwork.cli.console import (
    address_option,
    as_data,
    gateway_address,
    json_option,
    out,
    print_json,
    reports_errors,
)
from meshwork.cli.tables import model_card, models_table
from meshwork.supervisor.home import Home


@click.command()
@click.argument("service", default="")
@json_option
@address_option
@reports_errors
def models(service: str, as_json: bool, address: str) -> None:
    """List the models that are served: task, version, device, memory, licence, measured quality.

    With SERVICE, its models' cards too: every figure that was measured, and the limits.

    \b
    Examples:
      meshwork models
      meshwork models vision --json
    """
    with client.connect(gateway_address(address)) as mesh:
        found = mesh.router.list_models(service=service)
    if as_json:
        print_json([as_data(model) for model in found])
        return
    out.print(models_table(found))
    if not service:
        out.print(
            "\n`meshwork models SERVICE` shows their cards: what was measured, and the limits.", style="dim"
        )
        return
    for served in found:
        out.print()
        for line in model_card(served.model):
            out.print(line)


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
    out.print(f"{file} is good: {len(settings.services)} services, gateway on {settings.gateway.listen}")
