from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import rich_click as click
from click.testing import CliRunner
from rich.console import Console

from meshwork.cli import tables
from meshwork.cli.app import COMMANDS, main
from meshwork.cli.console import gateway_address, reports_errors
from meshwork.client import DEFAULT_ADDRESS
from meshwork.errors import ConfigError, Unavailable
from meshwork.router.v1 import router_pb2
from meshwork.supervisor.home import MeshRecord

READY = router_pb2.MODEL_STATE_READY


def text(table: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(table)
    return out.getvalue()


def rows(table: Any) -> list[list[str]]:
    return [line.split() for line in text(table).splitlines()[1:]]


def replica(name: str, *models: router_pb2.Model) -> router_pb2.Replica:
    return router_pb2.Replica(
        name=name, service=name.partition("-")[0], state=router_pb2.REPLICA_STATE_READY, models=models
    )


def model(name: str, state: router_pb2.ModelState.ValueType = READY, error: str = "") -> router_pb2.Model:
    return router_pb2.Model(name=name, version="1", device="cpu", state=state, error=error)


def test_a_service_shows_each_model_with_the_replicas_that_have_it_ready() -> None:
    table = tables.services_table(
        {"nlp": 2, "vision": 1, "speech": 0},
        [replica("nlp-1", model("a")), replica("nlp-2", model("a", router_pb2.MODEL_STATE_LOADING))],
    )
    assert rows(table) == [
        ["nlp", "a", "1", "cpu", "1/2", "loading"],
        ["vision", "0/1", "starting"],
        ["speech", "0/0", "scaled", "to", "0"],
    ]


def test_a_model_that_failed_says_why() -> None:
    table = tables.services_table(
        {"nlp": 1}, [replica("nlp-1", model("a", router_pb2.MODEL_STATE_FAILED, "card.yaml is missing"))]
    )
    assert "failed: card.yaml is missing" in text(table)


@pytest.mark.parametrize(("count", "shown"), [(0, "0 MB"), (12_345_678, "12 MB"), (1_500_000_000, "1.5 GB")])
def test_sizes_are_read_by_people(count: int, shown: str) -> None:
    assert tables.size(count) == shown


def test_what_a_card_says_is_no_markup() -> None:
    odd = model("[/x]", router_pb2.MODEL_STATE_FAILED, "no card")
    assert "[/x]" in text(tables.services_table({"nlp": 1}, [replica("nlp-1", odd)]))
    assert "[/x]" in text(tables.models_table([router_pb2.ServedModel(model=odd)]))
    served = router_pb2.ServedModel(model=model("a", router_pb2.MODEL_STATE_FAILED, "see [/x] there"))
    assert "see [/x] there" in text(tables.models_table([served]))
    card = router_pb2.Model(name="a", version="1", description="[bold]", limits=["[/x]"])
    out = io.StringIO()
    for line in tables.model_card(card):
        Console(file=out, width=200).print(line)
    assert out.getvalue() == "a@1 [bold]\n  limit: [/x]\n"


def failing(error: Exception) -> click.Command:
    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    @reports_errors
    def command(as_json: bool) -> None:
        raise error

    return command


def test_errors_of_calls_end_with_1_and_of_the_configuration_with_2() -> None:
    unavailable = CliRunner().invoke(failing(Unavailable("nobody is there", retry_after_s=1)), [])
    assert unavailable.exit_code == 1
    assert unavailable.stderr == "UNAVAILABLE nobody is there\nTry again in 1 s.\n"
    wrong = CliRunner().invoke(failing(ConfigError("mesh.yaml:3: [services] is wrong")), [])
    assert wrong.exit_code == 2
    assert "mesh.yaml:3: [services] is wrong" in wrong.stderr


def test_the_address_is_the_one_given_or_the_default_where_no_mesh_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MESHWORK_HOME", str(tmp_path))
    assert gateway_address("10.0.0.1:80") == "10.0.0.1:80"
    assert gateway_address("") == DEFAULT_ADDRESS


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_a_command_that_is_not_there_is_refused() -> None:
    assert CliRunner().invoke(main, ["nonsense"]).exit_code == 2


def test_a_card_says_which_engine_runs_the_model_and_what_each_gave() -> None:
    model = router_pb2.Model(name="a", version="1", engine="openvino:CPU")
    assert "  engine: openvino:CPU" in list(tables.model_card(model))
    model.engine_trials.add(engine="torch", single_ms=40.04, item_ms=30.5, batch_size=8)
    model.engine_trials.add(
        engine="openvino:CPU", single_ms=20, item_ms=9.876, batch_size=8, max_error=3.6e-7
    )
    model.engine_trials.add(engine="torch-compile", refused="no C++ compiler [x]")
    assert list(tables.model_card(model))[1:] == [
        "  engine: openvino:CPU, chosen as the fastest of:",
        "    torch: 40 ms alone, 30.5 ms an item of 8, error 0",
        "    openvino:CPU: 20 ms alone, 9.88 ms an item of 8, error 4e-07",
        r"    torch-compile: refused: no C++ compiler \[x]",
    ]


def test_each_gateway_stands_with_its_own_address() -> None:
    record = MeshRecord(
        name="default",
        pid=1,
        state="ready",
        reason="",
        gateway="127.0.0.1:8080",
        router="127.0.0.1:9000",
        redis_url="",
        config="{}",
        gateways=["127.0.0.1:8080", "127.0.0.1:8081"],
    )
    assert rows(tables.replicas_table([], record, [(1, 72), (0, 71)])) == [
        ["gateway", "envoy", "running", "127.0.0.1:8080", "71"],
        ["gateway", "envoy-2", "running", "127.0.0.1:8081", "72"],
    ]
