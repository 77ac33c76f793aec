"""`meshwork config`: what the mesh was told."""

from __future__ import annotations

from pathlib import Path

import rich_click as click
import yaml

from meshwork import config, slo
from meshwork.cli.console import (
    json_option,
    out,
    reports_errors,
)
from meshwork.errors import ConfigError
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


@config_group.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@reports_errors
def alerts(file: Path | None) -> None:
    """Print Prometheus alert rules for the objectives (`slo`) in FILE, or of the mesh that runs here.

    Each objective becomes three alerts on how fast its budget burns: two that page, one that does not.

    \b
    Example:
      meshwork config alerts mesh.yaml > deploy/prometheus/slo.yml
    """
    record = Home.from_environment().running()
    settings = config.read(file) if file else config.from_json(record.config) if record else config.read()
    text = slo.rules({name: service.slo for name, service in settings.services.items()})
    if not yaml.safe_load(text)["groups"]:
        where = file or "this mesh"
        raise ConfigError(f"{where}: no service has an slo, for example  slo: {{availability_percent: 99.9}}")
    click.echo(text, nl=False)
