"""`meshwork models`: what is served, and adding, loading, unloading and removing it on the running mesh."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import rich_click as click
from rich.markup import escape

from meshwork import client
from meshwork.cli.console import (
    address_option,
    as_data,
    err,
    gateway_address,
    json_option,
    out,
    print_json,
    reports_errors,
    router_address,
    router_option,
)
from meshwork.cli.tables import model_card, models_table
from meshwork.contract import SERVICES
from meshwork.errors import DeadlineExceeded, MeshworkError
from meshwork.router.v1 import router_pb2

POLL_S = 0.2
ENGINES = ("auto", "torch", "torch-compile", "onnxruntime", "openvino")
PRECISIONS = ("float32", "bfloat16", "float16")

READY, FAILED = router_pb2.MODEL_STATE_READY, router_pb2.MODEL_STATE_FAILED
UNLOADED = router_pb2.MODEL_STATE_UNLOADED


class _ListsByDefault(click.RichGroup):
    """`meshwork models` and `meshwork models SERVICE` list; other words are subcommands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ListsByDefault)
def models() -> None:
    """List the models that are served; add, load, unload and remove some while the mesh runs.

    \b
    Examples:
      meshwork models
      meshwork models vision
      meshwork models add vit --service vision --source ./vit-base
    """


@models.command(name="list")
@click.argument("service", default="")
@json_option
@address_option
@reports_errors
def list_models(service: str, as_json: bool, address: str) -> None:
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


no_wait_option = click.option("--no-wait", is_flag=True, help="Return at once; do not wait until it is done.")
timeout_option = click.option(
    "--timeout", "timeout_s", type=click.FloatRange(1), default=600.0, help="Seconds to wait; 600."
)
service_option = click.option(
    "--service",
    type=click.Choice(SERVICES),
    help="Its service; needed only if two services have a model of that name.",
)


@models.command()
@click.argument("name")
@click.option(
    "--service", type=click.Choice(SERVICES), required=True, help="The service that is to serve it."
)
@click.option(
    "--source",
    required=True,
    help="A directory (with a card.yaml, or as Hugging Face lays one out), a file (.onnx, .pt2, .pt), "
    "hf://ORG/NAME@REVISION, or starter://NAME.",
)
@click.option("--task", default="", help="Which of the service's tasks runs it; by its architecture.")
@click.option("--version", default="", help="Its version; the card's, or 1.")
@click.option("--default", "is_default", is_flag=True, help="Let it answer callers who name no model.")
@click.option("--device", default="", help="cpu, cuda:0, or several by commas: in parallel on all.")
@click.option("--on-demand", is_flag=True, help="Load it only for its first caller.")
@click.option(
    "--engine", type=click.Choice(ENGINES), help="What runs it; auto measures and takes the fastest."
)
@click.option("--precision", type=click.Choice(PRECISIONS), help="Of its weights on the device.")
@click.option(
    "--tolerance",
    type=float,
    default=0.0,
    help="By how much an engine may differ from torch; 0.0001 in float32.",
)
@click.option(
    "--provider", "providers", multiple=True, help="onnxruntime execution provider; again for more."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of the task, for example pooling=cls; again for more.",
)
@click.option(
    "--allow-pickle",
    multiple=True,
    metavar="FILE",
    help="Unpickle this file of the source. Pickle runs code: only from authors you trust.",
)
@no_wait_option
@timeout_option
@router_option
@reports_errors
def add(
    name: str,
    service: str,
    source: str,
    settings: tuple[str, ...],
    is_default: bool,
    no_wait: bool,
    timeout_s: float,
    router: str,
    **given: Any,
) -> None:
    """Serve one more model, on every replica of its service, without a restart.

    Replicas read SOURCE themselves, so a path has to be there on their machines.

    \b
    Examples:
      meshwork models add vit --service vision --source ./vit-base
      meshwork models add minilm --version 2 --service nlp --source hf://sentence-transformers/all-MiniLM-L6-v2
      meshwork models add scorer --service nlp --source scorer.onnx --engine onnxruntime --on-demand
    """
    if "://" not in source:
        source = str(Path(source).expanduser().resolve())
    options: dict[str, Any] = {key: "" if value is None else value for key, value in given.items()}
    with _admin(router) as mesh:
        told = mesh.admin.add_model(
            name,
            service,
            source,
            default=is_default,
            parameters=json.dumps(dict(map(_setting, settings))),
            **options,
        )
        if no_wait or not told.replica_count:
            later = "" if told.replica_count else f"; {service} has no replica now"
            out.print(f"{name} will be served by {service}{later}")
            return
        done = _states(lambda model: model.state in (READY, FAILED, UNLOADED))
        found = _until(mesh, service, name, given["version"], done, timeout_s)
        failed = [model for model in found if model.state == FAILED]
        if failed:
            err.print(f"[bold red]{name} cannot be served:[/] {escape(failed[0].error)}")
            if len(failed) == len(found):
                mesh.admin.remove_model(name, service=service)
            raise SystemExit(1)
        model = found[0]
        state = "loads on demand" if model.state == UNLOADED else f"{model.memory_bytes / 1e6:.0f} MB"
        out.print(
            f"{model.name}@{model.version} is served by {service} on {model.device} ({state}): "
            f"{', '.join(model.methods) or 'tensors'}"
        )


def _change(verb: str, did: str, done: Callable[[list[router_pb2.Model]], bool]) -> click.Command:
    """A command that asks something of a model that is there."""

    @click.argument("model", metavar="MODEL")
    @service_option
    @no_wait_option
    @timeout_option
    @router_option
    @reports_errors
    def command(model: str, service: str | None, no_wait: bool, timeout_s: float, router: str) -> None:
        with _admin(router) as mesh:
            asked = getattr(mesh.admin, f"{verb}_model")(model, service=service or "")
            name, _, version = asked.model.partition("@")
            if not no_wait:
                found = _until(mesh, asked.service, name, version, done, timeout_s)
                failed = [each for each in found if each.state == FAILED]
                if verb == "load" and failed:
                    err.print(f"[bold red]{asked.model} cannot be loaded:[/] {escape(failed[0].error)}")
                    raise SystemExit(1)
            out.print(f"{asked.model} of {asked.service} {'will be' if no_wait else 'is'} {did}")

    return click.command(name=verb)(command)


def _states(done: Callable[[router_pb2.Model], bool]) -> Callable[[list[router_pb2.Model]], bool]:
    """True once every replica has the model, in such a state."""
    return lambda found: bool(found) and all(map(done, found))


load = _change("load", "loaded", _states(lambda model: model.state in (READY, FAILED)))
load.help = """Load a MODEL (NAME or NAME@VERSION) that was unloaded, or that failed."""
unload = _change("unload", "unloaded", _states(lambda model: model.state in (UNLOADED, FAILED)))
unload.help = """Take a MODEL out of memory once its calls are answered; its next caller loads it again."""
remove = _change("remove", "removed", lambda found: not found)
remove.help = """Take a MODEL out of its service once its calls are answered."""
for _command in (load, unload, remove):
    models.add_command(_command)


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"{text!r}: should be NAME=VALUE, for example pooling=cls")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _admin(router: str) -> client.Client:
    return client.connect(router_address(router), timeout_s=10)


def _of_model(
    mesh: client.Client, service: str, name: str, version: str
) -> Iterator[router_pb2.Model | None]:
    """What each replica of a service says of a model; None where it does not know it yet."""
    for replica in mesh.router.list_replicas(service=service):
        same = [each for each in replica.models if each.name == name and version in ("", each.version)]
        yield same[0] if same else None


def _until(
    mesh: client.Client,
    service: str,
    name: str,
    version: str,
    done: Callable[[list[router_pb2.Model]], bool],
    timeout_s: float,
) -> list[router_pb2.Model]:
    """Shows how far the replicas are until they are `done`; gives what they say of the model then."""
    deadline = time.monotonic() + timeout_s
    with out.status(f"{service}: {name}") as spinner:
        while True:
            try:
                said = list(_of_model(mesh, service, name, version))
            except MeshworkError as error:  # the router restarts; what was asked is written down
                said, progress = [None], str(error)
            else:
                progress = next((each.progress for each in said if each and each.progress), "")
            found = [each for each in said if each is not None]
            if done(found) and (not found or len(found) == len(said)):
                return found
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"{name} is not done after {timeout_s:g} s; see `meshwork models {service}` and "
                    f"`meshwork logs {service}`"
                )
            spinner.update(f"{service}: {name} {escape(progress)}")
            time.sleep(POLL_S)
