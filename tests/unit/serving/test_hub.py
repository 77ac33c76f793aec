from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshwork.serving import hub
from meshwork.serving.card import CardError
from tests.unit.serving.hub_server import COMMIT, Hub, serving

FILES = {
    "config.json": b'{"architectures": ["BertModel"]}',
    "tokenizer.json": b"{}",
    "model.safetensors": os.urandom(300_000),
    "pytorch_model.bin": b"pickled",
    "onnx/model.onnx": b"another form",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with serving(FILES) as hub_server:
        yield hub_server


def fetched(
    server: Hub, home: Path, source: str, *, pickle: bool = False
) -> subprocess.CompletedProcess[str]:
    """Fetches in a process of its own: huggingface_hub reads its variables when it is imported."""
    code = (
        "import sys; from meshwork.serving import hub\n"
        "try:\n"
        f"    print(hub.fetch({source!r}, lambda text: print(text, file=sys.stderr), pickle={pickle}))\n"
        "except hub.CardError as error: sys.exit(str(error))\n"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": server.address,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
    }
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )


def test_a_hub_name_becomes_a_directory_of_safetensors_without_pickle(server: Hub, tmp_path: Path) -> None:
    done = fetched(server, tmp_path, f"hf://acme/tiny@{COMMIT}")
    folder = Path(done.stdout.strip())
    assert done.returncode == 0, done.stderr
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert not (folder / "pytorch_model.bin").exists()
    assert folder.is_relative_to(tmp_path)


def test_what_lies_in_the_cache_is_not_fetched_again(server: Hub, tmp_path: Path) -> None:
    fetched(server, tmp_path, f"hf://acme/tiny@{COMMIT}")
    server.asked.clear()
    assert fetched(server, tmp_path, f"hf://acme/tiny@{COMMIT}").returncode == 0
    assert not [asked for asked in server.asked if asked.startswith("GET /acme")]


def test_pickled_weights_are_fetched_only_where_they_are_allowed(server: Hub, tmp_path: Path) -> None:
    done = fetched(server, tmp_path, "hf://acme/tiny", pickle=True)
    assert (Path(done.stdout.strip()) / "pytorch_model.bin").is_file()


def test_progress_is_told_in_words(server: Hub, tmp_path: Path) -> None:
    assert "downloading" in fetched(server, tmp_path, "hf://acme/tiny").stderr


def test_a_revision_that_is_not_there_is_said_to_be_so(server: Hub, tmp_path: Path) -> None:
    done = fetched(server, tmp_path, "hf://acme/tiny@gone")
    assert done.returncode == 1
    assert "hf://acme/tiny@gone: cannot be fetched" in done.stderr


@pytest.mark.parametrize("source", ["hf://", "hf://tiny", "hf://a/b/c", "hf://a/b@", "hf://a/../../b"])
def test_a_name_that_is_none_is_refused_before_anybody_is_asked(source: str) -> None:
    with pytest.raises(CardError, match="should be hf://"):
        hub.fetch(source, print)
