"""The README's commands give what it shows, word for word, where `...` stands for anything."""

from __future__ import annotations

import doctest
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop import environment
from tests.mesh.conftest import ROOT, Mesh

README = (ROOT / "README.md").read_text(encoding="utf-8")


def console_steps() -> list[tuple[str, str]]:
    """Every `$ command` of the README with the output shown below it."""
    steps: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            steps.append((command, output))
    return steps


def squeezed(text: str) -> str:
    """Runs of spaces count as one, and those at the end of a line as none."""
    return "".join(f"{' '.join(line.split())}\n" for line in text.strip().splitlines())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what they read, so that what the commands write stays out of the tree."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("samples", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize(
    ("command", "output"), console_steps(), ids=lambda text: text.partition("\n")[0][:60]
)
def test_the_command_gives_what_the_readme_shows(mesh: Mesh, folder: Path, command: str, output: str) -> None:
    done = subprocess.run(
        ["bash", "-c", command.replace("127.0.0.1:8080", mesh.address)],
        env=mesh.environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout
    got = squeezed(done.stdout.replace(mesh.address, "127.0.0.1:8080"))
    wanted = squeezed(output)
    checker = doctest.OutputChecker()
    assert checker.check_output(wanted, got, doctest.ELLIPSIS), f"README shows:\n{wanted}\ngot:\n{got}"


def test_the_python_of_the_readme_runs(mesh: Mesh, folder: Path) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", script.replace("127.0.0.1:8080", mesh.address)],
        env=mesh.environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    seven, french, error = done.stdout.splitlines()
    assert seven == "7"
    assert "gare" in french
    assert error.startswith("NOT_FOUND MODEL_NOT_FOUND minilm@1")


def test_the_tensor_client_of_the_readme_runs(mesh: Mesh) -> None:
    (script,) = re.findall(r"```py\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [environment.python(), "-c", script.replace("127.0.0.1:8080", mesh.address)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip("[]\n").split()) == 10
