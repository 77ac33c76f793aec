"""Files that hold a network: what is in them is served, and what could run code is refused."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from meshwork.errors import InvalidArgument
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.engines.engine import error_between
from meshwork.serving.tensor_task import TensorTask
from tests.unit.serving.engines.conftest import DirectoryWith
from tests.unit.serving.engines.networks import (
    IDS_AND_SIDE,
    SCORES_AND_STATES,
    TwoWays,
    ids_and_side,
    reference,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated"),
]
OPEN = torch.export.Dim.DYNAMIC
LISTED = {
    key: [{"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)} for spec in specs]
    for key, specs in (("inputs", IDS_AND_SIDE), ("outputs", SCORES_AND_STATES))
}


def tensors_of(batch: int, length: int) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in ids_and_side(batch, length).items()}


def save_export(file: Path) -> None:
    shapes = {"ids": {0: OPEN, 1: OPEN}, "side": {0: OPEN}}
    program = torch.export.export(TwoWays().eval(), (), kwargs=tensors_of(3, 5), dynamic_shapes=shapes)
    torch.export.save(program, file)


def save_onnx(file: Path) -> None:
    torch.onnx.export(
        TwoWays().eval(),
        kwargs=tensors_of(3, 5),
        f=file,
        dynamo=True,
        verbose=False,
        external_data=False,
        input_names=["ids", "side"],
        output_names=["states", "scores"],
        dynamic_shapes={"ids": {0: OPEN, 1: OPEN}, "side": {0: OPEN}},
    )


class InOrder(TwoWays):
    """TorchScript's mapping has no order that can be relied upon, so this gives a tuple."""

    def forward(self, ids: torch.Tensor, side: torch.Tensor) -> Any:
        states = self.embed(ids)
        return self.mix(torch.cat([states.mean(1), side], -1)).softmax(-1), states


def save_script(file: Path) -> None:
    torch.jit.trace(InOrder().eval(), tuple(tensors_of(3, 5).values())).save(str(file))  # type: ignore


SAVES: dict[str, Callable[[Path], None]] = {
    "tiny.pt2": save_export,
    "tiny.onnx": save_onnx,
    "tiny.pt": save_script,
}


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same network in each format."""
    folder = tmp_path_factory.mktemp("saved")
    for name, save in SAVES.items():
        save(folder / name)
    return folder


def opened(saved: Path, directory_with: DirectoryWith, name: str, **says: Any) -> ModelDirectory:
    card = directory_with(parameters=LISTED, **says).card
    return ModelDirectory(path=saved, card=card, source=name, only=name)


@pytest.mark.parametrize(
    ("name", "asked", "engine"),
    [
        ("tiny.pt2", "torch", "torch-export"),
        ("tiny.pt2", "openvino", "openvino:CPU"),
        ("tiny.onnx", "torch", "onnxruntime:CPU"),
        ("tiny.onnx", "openvino", "openvino:CPU"),
        ("tiny.pt", "torch", "torchscript"),
    ],
)
def test_each_format_gives_what_the_module_gave(
    saved: Path, directory_with: DirectoryWith, name: str, asked: str, engine: str
) -> None:
    task = TensorTask.load(opened(saved, directory_with, name, engine=asked), "cpu")
    task.warm_up()
    assert task.tensors.name == engine
    assert {spec.name: spec for spec in task.tensors.inputs} == {spec.name: spec for spec in IDS_AND_SIDE}
    assert task.memory_bytes() > 4 * 20 * 6
    for batch, length in ((1, 1), (4, 7)):
        inputs = ids_and_side(batch, length)
        (got,) = task.forward([task.preprocess(inputs)])
        assert error_between(got, reference(TwoWays(), inputs)) < 1e-5
    task.close()


def test_auto_tries_the_engines_of_an_onnx_file(saved: Path, directory_with: DirectoryWith) -> None:
    task = TensorTask.load(opened(saved, directory_with, "tiny.onnx", engine="auto"), "cpu")
    verdict = task.tensors.verdict
    assert verdict is not None
    assert [trial.engine for trial in verdict.trials] == ["onnxruntime:CPU", "openvino:CPU"]
    assert not any(trial.refused for trial in verdict.trials)


@pytest.mark.parametrize(("name", "native"), [("tiny.pt2", "torch-export"), ("tiny.pt", "torchscript")])
def test_auto_never_fails_a_file_that_torch_runs(
    saved: Path, directory_with: DirectoryWith, name: str, native: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", None)
    task = TensorTask.load(opened(saved, directory_with, name, engine="auto"), "cpu")
    verdict = task.tensors.verdict
    assert verdict is not None
    assert verdict.trials[0].engine == native
    assert not verdict.trials[0].refused
    (got,) = task.forward([ids_and_side(2, 2)])
    assert error_between(got, reference(TwoWays(), ids_and_side(2, 2))) < 1e-5


@pytest.mark.parametrize("engine", ["onnxruntime:CPU", "openvino:CPU"])
def test_an_onnx_file_that_cannot_be_tried_is_served_by_the_first_engine_that_takes_it(
    saved: Path, directory_with: DirectoryWith, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    says: dict[str, Any] = {"parameters": {"example": {"side": [2, 99]}}}  # which the network does not take
    if engine == "openvino:CPU":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        says = {}
    card = directory_with(engine="auto", **says).card
    task = TensorTask.load(ModelDirectory(path=saved, card=card, source="t", only="tiny.onnx"), "cpu")
    assert task.tensors.name == engine
    assert task.tensors.verdict is not None
    assert "taken untried" in task.tensors.verdict.trials[-1].refused


def test_requests_of_different_rows_share_a_run_and_get_their_own_rows_back(
    saved: Path, directory_with: DirectoryWith
) -> None:
    task = TensorTask.load(opened(saved, directory_with, "tiny.onnx"), "cpu")
    requests = [ids_and_side(count, 4, seed) for seed, count in enumerate((1, 3, 2))]
    assert len({task.group(each) for each in requests}) == 1
    assert task.group(requests[0]) != task.group(ids_and_side(1, 5))
    assert [task.cost(each) for each in requests] == [1, 3, 2]
    for got, request in zip(task.forward(requests), requests, strict=True):
        assert error_between(got, reference(TwoWays(), request)) < 1e-5


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"side": np.zeros((3, 4), np.float32)}, "side"),
        ({"side": np.zeros((0, 4), np.float32), "ids": np.zeros((0, 2), np.int64)}, "ids"),
        ({"side": np.zeros((2, 4), np.int64)}, "side"),
        ({"more": np.zeros(2)}, "more"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(
    saved: Path, directory_with: DirectoryWith, change: dict[str, Any], field: str
) -> None:
    task = TensorTask.load(opened(saved, directory_with, "tiny.onnx"), "cpu")
    with pytest.raises(InvalidArgument) as error:
        task.preprocess({**ids_and_side(2, 3), **change})
    assert error.value.field == field


def test_a_network_whose_outputs_are_not_by_row_runs_each_request_alone(
    tmp_path: Path, directory_with: DirectoryWith
) -> None:
    class Total(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum(0, keepdim=True)

    program = torch.export.export(Total(), (torch.rand(3, 2),), dynamic_shapes=({0: OPEN},))
    torch.export.save(program, tmp_path / "total.pt2")
    task = TensorTask.load(directory_with(), "cpu")
    (spec,) = task.tensors.inputs
    batch = [{spec.name: np.full((rows, 2), 1.5, np.float32)} for rows in (1, 3)]
    first, second = task.forward(batch)
    assert [array.tolist() for array in (first["output"], second["output"])] == [[[1.5, 1.5]], [[4.5, 4.5]]]


def test_a_torchscript_file_alone_is_refused_with_the_card_that_it_needs(
    saved: Path, directory_with: DirectoryWith
) -> None:
    with pytest.raises(CardError, match=r"(?s)card.yaml.*task: tensors.*name: ids, .*name: side, "):
        TensorTask.load(
            ModelDirectory(path=saved, card=directory_with().card, source="t", only="tiny.pt"), "cpu"
        )


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_a_pickle_is_refused_unread_unless_the_card_allows_the_file(
    tmp_path: Path, directory_with: DirectoryWith
) -> None:
    marker = tmp_path / "exploded"
    torch.save(Bomb(marker), tmp_path / "bomb.pt")
    with pytest.raises(CardError, match="name it in allow_pickle"):
        TensorTask.load(directory_with(parameters=LISTED), "cpu")
    assert not marker.exists()
    torch.save(InOrder(), tmp_path / "bomb.pt")
    task = TensorTask.load(directory_with(parameters=LISTED, allow_pickle=("bomb.pt",)), "cpu")
    (got,) = task.forward([ids_and_side(2, 2)])
    assert error_between(got, reference(TwoWays(), ids_and_side(2, 2))) < 1e-6


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes], **added: bytes) -> None:
    """A copy of a zip archive in which `change` has been at each part, with more parts."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for name, content in added.items():
            new.writestr(f"{root}/{name}", content)


def replacing(old: str, new: str) -> Callable[[str, bytes], bytes]:
    return lambda name, content: (
        content.replace(old.encode(), new.encode(), 1) if ".json" in name else content
    )


@pytest.mark.parametrize(
    ("change", "added", "says"),
    [
        (replacing("torch.ops.aten.softmax.int", "torch.os.system"), {}, "it calls 'torch.os.system'"),
        (replacing("torch.ops.aten.softmax.int", "torch.hub.load"), {}, "it calls"),
        (replacing("torch.ops.aten.softmax.int", "torch.ops.load_library"), {}, "it calls"),
        (replacing("torch.ops.aten.softmax.int", "_operator.methodcaller"), {}, "it calls"),
        (replacing('"use_pickle": false', '"use_pickle": true'), {}, "it has pickled weights"),
        (
            lambda name, content: content.replace(b'"expr_str": "', b'"expr_str": "exec(chr(65)) or ', 1),
            {},
            "it has the expression",
        ),
        (
            replacing("", ""),
            {"data/aotinductor/model/x.so": b"\x7fELF"},
            r"it holds data/aotinductor/model/x\.so",
        ),
        (replacing("", ""), {"data/constants/custom_obj_0": b"\x80"}, "it holds data/constants/custom_obj_0"),
    ],
)
def test_an_export_that_could_run_code_is_refused_unless_the_card_allows_it(
    saved: Path,
    tmp_path: Path,
    directory_with: DirectoryWith,
    change: Callable[[str, bytes], bytes],
    added: dict[str, bytes],
    says: str,
) -> None:
    rewritten(saved / "tiny.pt2", tmp_path / "tiny.pt2", change, **added)
    with pytest.raises(CardError, match=f"tiny.pt2: {says}.* allow_pickle"):
        TensorTask.load(directory_with(), "cpu")


def test_sample_inputs_that_are_pickled_objects_are_refused_unread(
    saved: Path, tmp_path: Path, directory_with: DirectoryWith
) -> None:
    marker = tmp_path / "exploded"
    torch.save(Bomb(marker), tmp_path / "bomb")
    bomb = (tmp_path / "bomb").read_bytes()
    rewritten(
        saved / "tiny.pt2",
        tmp_path / "tiny.pt2",
        lambda name, content: bomb if "sample_inputs" in name else content,
    )
    with pytest.raises(CardError, match="sample inputs are pickled"):
        TensorTask.load(directory_with(), "cpu")
    assert not marker.exists()


def test_the_guards_of_an_export_are_not_run(
    saved: Path, tmp_path: Path, directory_with: DirectoryWith
) -> None:
    marker = tmp_path / "exploded"

    def guarded(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        program = json.loads(content)
        program["guards_code"] = [f"__import__('os').mkdir({str(marker)!r}) or True"]
        return json.dumps(program).encode()

    rewritten(saved / "tiny.pt2", tmp_path / "tiny.pt2", guarded)
    task = TensorTask.load(directory_with(), "cpu")
    task.forward([ids_and_side(2, 2)])
    assert not marker.exists()


@pytest.mark.parametrize("name", ["broken.onnx", "broken.pt2", "broken.pt"])
@pytest.mark.parametrize("content", [b"", b"no network at all", b"PK\x03\x04half an archive"])
def test_a_file_that_is_no_network_is_refused(
    tmp_path: Path, directory_with: DirectoryWith, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CardError, match=name):
        TensorTask.load(directory_with(), "cpu")


@pytest.mark.parametrize(
    ("files", "parameters", "says"),
    [
        ([], {}, "holds none; say which"),
        (["a.onnx", "b.pt2"], {}, r"holds a\.onnx, b\.pt2; say which"),
        (["a.onnx"], {"file": "c.onnx"}, "is missing"),
        (["a.txt"], {"file": "a.txt"}, "should be a file in"),
        (["a.pt"], {"inputs": [{"name": 5}]}, "parameters: inputs: should list"),
    ],
)
def test_a_directory_that_does_not_say_which_network_is_refused(
    tmp_path: Path, saved: Path, directory_with: DirectoryWith, files: list[str], parameters: Any, says: str
) -> None:
    for name in files:
        (tmp_path / name).write_bytes((saved / "tiny.pt").read_bytes() if name == "a.pt" else b"")
    with pytest.raises(CardError, match=says):
        TensorTask.load(directory_with(parameters=parameters), "cpu")
