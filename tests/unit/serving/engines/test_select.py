"""Every engine gives what torch gives; auto takes the fastest of those that do, and says why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from meshwork.errors import InvalidArgument
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.engines import torch_compile
from meshwork.serving.engines.engine import Engine, error_between
from meshwork.serving.engines.select import engine_for
from tests.unit.serving.engines.conftest import DirectoryWith
from tests.unit.serving.engines.networks import (
    IDS_AND_SIDE,
    LOGITS,
    PIXELS,
    SCORES_AND_STATES,
    Classifier,
    TwoWays,
    ids_and_side,
    pixels,
    reference,
)

# torch's own exporter uses what torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Without a C++ compiler, as on many machines; and compiling would take most of a minute."""
    if "compiles" not in request.keywords:
        monkeypatch.setattr(
            torch_compile.torch,
            "compile",
            lambda *a, **k: (_ for _ in ()).throw(RuntimeError("no C++ compiler")),
        )


def classifier_on(directory: ModelDirectory, module: nn.Module | None = None) -> Engine:
    return engine_for(
        module or Classifier(),
        directory=directory,
        device="cpu",
        inputs=PIXELS,
        outputs=LOGITS,
        example=pixels(1),
    )


def two_ways_on(directory: ModelDirectory) -> Engine:
    return engine_for(
        TwoWays(),
        directory=directory,
        device="cpu",
        inputs=IDS_AND_SIDE,
        outputs=SCORES_AND_STATES,
        example=ids_and_side(1, 4),
    )


@pytest.mark.parametrize(
    ("asked", "name"),
    [("torch", "torch"), ("onnxruntime", "onnxruntime:CPU"), ("openvino", "openvino:CPU")],
)
class TestEach:
    @pytest.mark.parametrize("batch", [1, 5])
    def test_runs_a_convolution_network_at_any_batch(
        self, directory_with: DirectoryWith, asked: str, name: str, batch: int
    ) -> None:
        engine = classifier_on(directory_with(engine=asked))
        assert engine.name == name
        array = pixels(batch)["pixels"]
        as_nhwc = np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        for given in (array, as_nhwc):
            assert error_between(engine.run({"pixels": given}), reference(Classifier(), pixels(batch))) < 1e-5

    def test_runs_several_inputs_and_outputs_at_any_length(
        self, directory_with: DirectoryWith, asked: str, name: str
    ) -> None:
        engine = two_ways_on(directory_with(engine=asked))
        results = []
        for batch, length in ((1, 1), (3, 9), (2, 2)):
            inputs = ids_and_side(batch, length)
            got = engine.run(inputs)
            assert list(got) == ["scores", "states"]
            results.append((got, reference(TwoWays(), inputs)))
        # Answers belong to the caller: a later run has not changed them.
        assert all(error_between(got, want) < 1e-6 for got, want in results)

    def test_refuses_what_does_not_fit_by_name(
        self, directory_with: DirectoryWith, asked: str, name: str
    ) -> None:
        engine = two_ways_on(directory_with(engine=asked))
        good = ids_and_side(2, 3)
        for change, field in (
            ({"side": np.zeros((2, 5), np.float32)}, "side"),
            ({"side": np.zeros((2, 4))}, "side"),
            ({"more": good["side"]}, "more"),
        ):
            with pytest.raises(InvalidArgument) as error:
                engine.run({**good, **change})
            assert error.value.field == field
        with pytest.raises(InvalidArgument, match="is missing"):
            engine.run({"side": good["side"]})

    def test_gives_its_memory_back(self, directory_with: DirectoryWith, asked: str, name: str) -> None:
        engine = classifier_on(directory_with(engine=asked))
        assert engine.memory_bytes() > 3000
        engine.close()
        assert engine.memory_bytes() == 0


def test_bfloat16_is_held_to_float32_within_the_declared_tolerance(directory_with: DirectoryWith) -> None:
    for asked in ("torch", "openvino"):
        engine = classifier_on(directory_with(engine=asked, precision="bfloat16"))
        error = error_between(engine.run(pixels(4)), reference(Classifier(), pixels(4)))
        assert error < 5e-2
        if engine.verdict is None and torch.ops.mkldnn._is_mkldnn_bf16_supported():
            with pytest.raises(
                CardError, match=f"engine {asked}: its outputs are off by .* tolerance of 1e-07"
            ):
                classifier_on(directory_with(engine=asked, precision="bfloat16", tolerance=1e-7))


def test_auto_takes_the_fastest_and_reports_what_each_gave(
    directory_with: DirectoryWith, cache: Path
) -> None:
    engine = classifier_on(directory_with(engine="auto"))
    verdict = engine.verdict
    assert verdict is not None
    assert verdict.engine == engine.name
    by_name = {trial.engine: trial for trial in verdict.trials}
    assert list(by_name) == ["torch", "torch-compile", "onnxruntime:CPU", "openvino:CPU"]
    assert by_name["torch-compile"].refused == "no C++ compiler"
    allowed = [trial for trial in verdict.trials if not trial.refused]
    assert len(allowed) == 3
    assert all(trial.single_ms > 0 and trial.item_ms > 0 and trial.batch_size == 8 for trial in allowed)
    assert min(allowed, key=lambda trial: trial.single_ms * trial.item_ms).engine == engine.name
    assert error_between(engine.run(pixels(3)), reference(Classifier(), pixels(3))) < 1e-5


def test_the_verdict_is_kept_for_the_same_network_and_made_anew_for_another(
    directory_with: DirectoryWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = directory_with(engine="auto")
    first = classifier_on(directory).verdict
    assert first is not None
    assert classifier_on(directory).verdict == first  # times would differ if they were measured
    other = Classifier()
    with torch.no_grad():
        other.head.bias.add_(1)
    assert classifier_on(directory, other).verdict != first
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert classifier_on(directory).verdict != first


def test_a_kept_verdict_whose_engine_has_gone_is_made_anew(
    directory_with: DirectoryWith, cache: Path
) -> None:
    directory = directory_with(engine="auto")
    classifier_on(directory)
    (file,) = cache.glob("verdicts/*/verdict.json")
    for content in ('{"engine": "abacus", "trials": []}', "not JSON"):
        file.write_text(content)
        verdict = classifier_on(directory).verdict
        assert verdict is not None
        assert len(verdict.trials) == 4


class Unexportable(Classifier):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if pixels.sum().item() > 1e9:
            return pixels
        return super().forward(pixels)


def test_a_network_that_cannot_be_exported_runs_on_torch_and_the_report_says_why(
    directory_with: DirectoryWith,
) -> None:
    engine = classifier_on(directory_with(engine="auto"), Unexportable())
    assert engine.name == "torch"
    assert engine.verdict is not None
    refused = {trial.engine: trial.refused for trial in engine.verdict.trials}
    assert refused["onnxruntime"]
    assert refused["openvino"]
    assert not refused["torch"]
    with pytest.raises(CardError, match="tiny: engine onnxruntime: "):
        classifier_on(directory_with(engine="onnxruntime"), Unexportable())


def test_where_no_engine_is_within_the_tolerance_torch_in_float32_runs_it(
    directory_with: DirectoryWith,
) -> None:
    class Restless(Classifier):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return super().forward(pixels) + torch.rand(1)

    engine = classifier_on(directory_with(engine="auto"), Restless())
    assert engine.name == "torch"
    assert engine.verdict is not None
    assert all(trial.refused for trial in engine.verdict.trials)
    assert engine.run(pixels(2))["logits"].shape == (2, 5)


def test_an_export_that_has_gone_stale_is_made_again(directory_with: DirectoryWith, cache: Path) -> None:
    directory = directory_with(engine="onnxruntime")
    classifier_on(directory)
    (file,) = cache.glob("exports/*/model.onnx")
    shifted = Classifier()
    with torch.no_grad():
        shifted.head.bias.add_(1)
    classifier_on(directory, shifted)
    (other,) = set(cache.glob("exports/*/model.onnx")) - {file}
    file.write_bytes(other.read_bytes())
    got = classifier_on(directory).run(pixels(2))
    assert error_between(got, reference(Classifier(), pixels(2))) < 1e-5


def test_a_cache_that_cannot_be_written_to_keeps_nothing_and_hurts_nothing(
    directory_with: DirectoryWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MESHWORK_CACHE", str(tmp_path / "file"))
    assert classifier_on(directory_with(engine="auto")).verdict is not None


@pytest.mark.parametrize(
    ("says", "error"),
    [
        ({"engine": "abacus"}, "engine: there is none named 'abacus'; there are: torch, torch-compile, onnx"),
        ({"precision": "int3"}, "precision: should be one of float32, bfloat16, float16, not 'int3'"),
        (
            {"engine": "onnxruntime", "providers": ("CUDA", "CPU")},
            r"has no CUDAExecutionProvider \(it has .*CPU.*\); install onnxruntime-gpu in its place",
        ),
        ({"engine": "onnxruntime", "providers": ("VitisAI",)}, "VitisAIExecutionProvider .* AMD's Vitis AI"),
        ({"engine": "onnxruntime", "providers": ("Abacus",)}, "'Abacus' is unknown; there are: cpu, cuda"),
        (
            {"engine": "openvino", "providers": ("OpenVINO:device_type=NPU",)},
            "finds no device NPU; it has CPU",
        ),
    ],
)
def test_a_card_that_asks_for_what_is_not_there_is_refused_by_what_is_missing(
    directory_with: DirectoryWith, says: dict[str, Any], error: str
) -> None:
    with pytest.raises(CardError, match=error):
        classifier_on(directory_with(**says))


@pytest.mark.parametrize("package", ["onnxruntime", "openvino"])
def test_an_engine_that_is_not_installed_is_refused_with_how_to_install_it(
    directory_with: DirectoryWith, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    says = rf"{package} is not installed: pip install meshwork\[{package}\]"
    with pytest.raises(CardError, match=says):
        classifier_on(directory_with(engine=package))


@pytest.mark.compiles
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.* is deprecated")
def test_torch_compile_gives_what_torch_gives_at_any_batch(directory_with: DirectoryWith) -> None:
    engine = two_ways_on(directory_with(engine="torch-compile"))
    assert engine.name == "torch-compile"
    for batch, length in ((1, 4), (8, 4), (5, 7)):
        inputs = ids_and_side(batch, length)
        assert error_between(engine.run(inputs), reference(TwoWays(), inputs)) < 1e-5
