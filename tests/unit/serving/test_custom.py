"""Tasks of the operator's own, and networks that every service serves as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import torch

from meshwork.model_config import ModelConfig
from meshwork.router.v1 import router_pb2
from meshwork.serving import sources
from meshwork.serving.card import CardError, ModelCard, ModelDirectory
from meshwork.serving.custom import custom_task
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from meshwork.serving.tensor_task import TensorTask
from tests.unit.contexts import FakeContext
from tests.unit.serving.echo_task import Echo

CARD = 'name: mine\nversion: "1"\nservice: nlp\ntask: model.py:Shout\nmethods: [Say]\n'
SHOUT = """
from tests.unit.serving.echo_task import Echo
from .loudness import louder

class Shout(Echo):
    def postprocess(self, prepared, raw):
        return louder(raw)
"""


@pytest.fixture
async def table() -> AsyncIterator[ModelTable]:
    table = ModelTable("nlp", "nlp-1", {}, "cpu", LoadMeter())
    yield table
    await table.close()


def write_model(folder: Path, code: str = SHOUT, mark: str = "!") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "card.yaml").write_text(CARD)
    (folder / "model.py").write_text(code)
    (folder / "loudness.py").write_text(f"def louder(text):\n    return text.upper() + {mark!r}\n")
    return str(folder)


async def test_a_class_in_the_model_s_directory_answers(table: ModelTable, tmp_path: Path) -> None:
    await table.add(ModelConfig(source=write_model(tmp_path / "a")))
    (described,) = table.describe()
    assert described.error == ""
    answer = await table.run(Echo, "Say", "mine", ["hello"], FakeContext())
    assert answer.outputs == ["ECHO HELLO!"]


async def test_models_with_modules_of_one_name_do_not_meet(table: ModelTable, tmp_path: Path) -> None:
    await table.add(ModelConfig(source=write_model(tmp_path / "a")))
    await table.add(ModelConfig(source=write_model(tmp_path / "b", mark="?"), version="2"))
    for model, mark in (("mine@1", "!"), ("mine@2", "?")):
        answer = await table.run(Echo, "Say", model, ["hello"], FakeContext())
        assert answer.outputs == [f"ECHO HELLO{mark}"]


def test_a_class_of_an_installed_package_is_found_by_its_module(tmp_path: Path) -> None:
    assert custom_task("tests.unit.serving.echo_task:Echo", directory(tmp_path)) is Echo


def directory(path: Path, source: str = "mine") -> ModelDirectory:
    card = ModelCard(name="mine", version="1", service="nlp", task="model.py:Shout", methods=("Say",))
    return ModelDirectory(path=path, card=card, source=source)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise RuntimeError('no luck')", "cannot be imported: RuntimeError: no luck"),
        ("import sys; sys.exit(3)", "cannot be imported: SystemExit: 3"),
        ("import no_such_package", "cannot be imported: ModuleNotFoundError"),
        ("def broken(", "cannot be imported: SyntaxError"),
        ("class Other: pass", "Shout should be a class in model.py that is a Task, not None"),
        ("class Shout: pass", "should be a class in model.py that is a Task"),
        (
            "from meshwork.serving.task import Task\nclass Shout(Task):\n    def warm_up(self): ...",
            "Shout lacks forward, load, postprocess, preprocess",
        ),
    ],
)
def test_code_that_is_no_task_is_refused_by_what_is_wrong(tmp_path: Path, code: str, says: str) -> None:
    write_model(tmp_path, code)
    with pytest.raises(CardError, match=says):
        custom_task("model.py:Shout", directory(tmp_path))


def test_code_from_a_hub_is_not_run(tmp_path: Path) -> None:
    write_model(tmp_path, "raise AssertionError('it ran')")
    for task in ("model.py:Shout", "os:abort"):
        with pytest.raises(CardError, match="code from a hub is not run"):
            custom_task(task, directory(tmp_path, "hf://someone/mine"))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"model\.py is missing"):
        custom_task("model.py:Shout", directory(tmp_path))


async def test_every_service_serves_a_file_with_a_network_and_says_which_engine_runs_it(
    table: ModelTable, tmp_path: Path
) -> None:
    program = torch.export.export(
        torch.nn.Linear(3, 2), (torch.rand(4, 3),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
    )
    torch.export.save(program, tmp_path / "linear.pt2")
    await table.add(ModelConfig(source=str(tmp_path / "linear.pt2")))
    (described,) = table.describe()
    assert (described.name, described.state) == ("linear", router_pb2.MODEL_STATE_READY), described.error
    assert described.engine == "torch-export"
    assert list(described.methods) == ["ModelInfer"]
    rows = [{"input": np.full((count, 3), count, np.float32)} for count in (1, 2, 3)]
    answer = await table.run(TensorTask, "ModelInfer", "linear", rows, FakeContext())
    assert answer.served_by.batch_size == 3
    for given, got in zip(rows, answer.outputs, strict=True):
        want = program.module()(torch.from_numpy(given["input"])).detach().numpy()
        np.testing.assert_allclose(got["output"], want, rtol=1e-5)


def test_a_card_from_a_hub_cannot_allow_its_own_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_model(tmp_path)
    with (tmp_path / "card.yaml").open("a") as card:
        card.write("allow_pickle: [weights.bin]\n")
    monkeypatch.setattr(sources.hub, "fetch", lambda *_, **__: tmp_path)
    catalogue = sources.Catalogue(service="nlp", tasks=(), architectures={}, methods=lambda _: ())
    for given, allowed in ((source, ("weights.bin",)), ("hf://someone/mine", ())):
        opened = sources.open_source(ModelConfig(source=given), catalogue)
        assert opened.card.allow_pickle == allowed
