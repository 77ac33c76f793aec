"""Models that come and go while the mesh runs: a fresh Hugging Face directory is served by one command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshwork.errors import Unimplemented
from tests.mesh.conftest import Mesh
from tests.unit.services.vision.checkpoints import encoded, photo, vit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT as a user would have downloaded it, and a photograph beside it."""
    folder = tmp_path_factory.mktemp("downloads")
    vit(folder / "vit")
    (folder / "photo.png").write_bytes(encoded(photo(1, 64, 48)))
    return folder


@pytest.fixture(scope="module")
def added(mesh: Mesh, folder: Path) -> Iterator[str]:
    done = mesh.run("models", "add", "my-vit", "--service", "vision", "--source", str(folder / "vit"))
    assert done.returncode == 0, done.stdout + done.stderr
    yield done.stdout
    mesh.run("models", "remove", "my-vit")


def top(mesh: Mesh, folder: Path) -> str:
    done = mesh.run("call", "vision", "classify", str(folder / "photo.png"), "--model", "my-vit", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    label: str = json.loads(done.stdout)["classifications"][0]["label"]
    return label


def state(mesh: Mesh) -> str:
    found = [each["model"] for each in mesh.json("models", "vision") if each["model"]["name"] == "my-vit"]
    return str(found[0]["state"]) if found else "none"


def test_one_command_serves_a_directory_through_the_gateway(mesh: Mesh, folder: Path, added: str) -> None:
    assert "my-vit@1 is served by vision" in added
    assert top(mesh, folder)


def test_an_unloaded_model_is_loaded_by_the_next_call(mesh: Mesh, folder: Path, added: str) -> None:
    before = top(mesh, folder)
    done = mesh.run("models", "unload", "my-vit")
    assert done.returncode == 0, done.stderr
    assert state(mesh) == "MODEL_STATE_UNLOADED"
    assert top(mesh, folder) == before
    assert state(mesh) == "MODEL_STATE_READY"


def test_a_replica_that_starts_later_serves_it_too(mesh: Mesh, added: str) -> None:
    assert mesh.run("models", "load", "my-vit").returncode == 0
    assert mesh.run("scale", "vision=2").returncode == 0
    try:
        (served,) = [each for each in mesh.json("models", "vision") if each["model"]["name"] == "my-vit"]
        assert len(served["replicas"]) == 2
    finally:
        assert mesh.run("scale", "vision=1").returncode == 0


def test_what_cannot_be_served_says_why_and_is_not_kept(mesh: Mesh, folder: Path) -> None:
    (folder / "broken").mkdir(exist_ok=True)
    (folder / "broken" / "config.json").write_text('{"architectures": ["ViTForImageClassification"]}')
    done = mesh.run("models", "add", "broken", "--service", "vision", "--source", str(folder / "broken"))
    assert done.returncode == 1
    assert "cannot be served" in done.stderr
    assert "broken" not in mesh.run("models").stdout


def test_a_removed_model_is_not_found(mesh: Mesh, folder: Path) -> None:
    source = str(folder / "vit")
    assert mesh.run("models", "add", "short", "--service", "vision", "--source", source).returncode == 0
    assert mesh.run("models", "remove", "short").returncode == 0
    done = mesh.run("call", "vision", "classify", str(folder / "photo.png"), "--model", "short")
    assert done.returncode == 1
    assert "NOT_FOUND" in done.stderr


def test_the_gateway_does_not_let_callers_change_models(mesh: Mesh) -> None:
    with mesh.client() as client, pytest.raises(Unimplemented, match="router's own address"):
        client.admin.remove_model("digits")
