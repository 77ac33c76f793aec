"""Files of torch.export (`.pt2`): a graph of operators and its weights.

torch's loader would unpickle objects, run native libraries, evaluate expressions and look up any name
of the module `torch` that a file holds. So a file is looked through first, and it is loaded only if it
is nothing but operators on tensors; an operator who trusts its author names it in `allow_pickle`.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from meshwork.devices import torch_device
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.engines.engine import TensorSpec
from meshwork.serving.engines.network_file import NetworkFile, specs_in_card, wire_dtype
from meshwork.serving.engines.trial import example_of

_PART = re.compile(
    r"(models/\w+\.json|data/(weights|constants)/(\w+\.json|(weight|tensor)_\d+)|data/sample_inputs/\w+\.pt"
    r"|extra/.*|archive_format|archive_version|byteorder|version|\.data/\w+|\.format_version|\.storage_alignment)"
)
_OPERATOR = re.compile(
    r"torch\.ops\.(?!\w*load)[a-z]\w*(\.[a-z_]\w*){1,2}|_operator\.[a-z]\w*|math\.[a-z]\w*|torch\.sym_\w+"
)
_FORBIDDEN = re.compile(r"__|\.(save|from_file)\b|_operator\.(attrgetter|methodcaller|call)")
# As sympy's srepr writes it, with no text but the names of symbols. Possessive, to fail in linear time.
_EXPRESSION = re.compile(
    r"(?!.*__)(?:[\s()+\-*/%,<>=!&|~]|\d++(?:\.\d++)?|Symbol\('[a-z]{1,6}\d*'|[A-Z][A-Za-z0-9_]*+|[a-z_]++=)*+"
)


class _FlatModule(nn.Module):
    """An exported graph by the names of its tensors, whatever structure it takes and gives."""

    def __init__(self, graph: nn.Module, spec: Any, dtypes: dict[str, torch.dtype]) -> None:
        super().__init__()
        self.graph = graph
        self.spec = spec
        self.dtypes = dtypes

    def forward(self, **named: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Runs the graph."""
        leaves = [named[name].to(dtype) for name, dtype in self.dtypes.items()]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return tuple(pytree.tree_leaves(self.graph(*args, **kwargs)))


def open_export(directory: ModelDirectory, file: Path, device: str) -> NetworkFile:
    """Reads a `.pt2` file.

    Its inputs are named as its graph names them; its outputs as the keys of the mapping that it gives,
    else as the card's `parameters: outputs` lists them, else `output_0` and so on.

    Raises:
        CardError: it is no such file, or holds more than operators on tensors.
    """
    if file.name not in directory.card.allow_pickle:
        try:
            _look_through(file)
        except (OSError, ValueError, RecursionError, zipfile.BadZipFile) as error:
            raise CardError(f"{directory.source}: {file.name}: {error}") from error
    try:
        # Opened here: torch's loader wants to be told of a file by its ending.
        program = torch.export.load(io.BytesIO(file.read_bytes()))
        return _network(program, directory, device)
    except CardError:
        raise
    except Exception as error:
        raise CardError(f"{directory.source}: {file.name}: torch cannot load it: {error}") from error


def _look_through(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        names = [name.partition("/")[2] for name in archive.namelist()]
        if "archive_format" not in names:
            raise ValueError("is not in torch.export's present format; save it again with this torch")
        for full, name in zip(archive.namelist(), names, strict=True):
            if not _PART.fullmatch(name):
                raise ValueError(_refusal(f"it holds {name}"))
            if name.endswith(".json"):
                for key, value in _entries(json.loads(archive.read(full))):
                    _check_entry(key, value)
            if name.startswith("data/sample_inputs/") and (content := archive.read(full)):
                try:
                    torch.load(io.BytesIO(content), weights_only=True)
                except Exception as error:
                    raise ValueError(_refusal("its sample inputs are pickled objects")) from error


def _check_entry(key: str, value: Any) -> None:
    if key == "use_pickle" and value:
        raise ValueError(_refusal("it has pickled weights"))
    if key == "target" and (not _OPERATOR.fullmatch(value) or _FORBIDDEN.search(value)):
        raise ValueError(_refusal(f"it calls {value!r}"))
    if key == "expr_str" and not _EXPRESSION.fullmatch(value):
        raise ValueError(_refusal(f"it has the expression {value!r}"))


def _refusal(what: str) -> str:
    return (
        f"{what}, which could run any code when it is loaded; name the file in allow_pickle if you trust it"
    )


def _entries(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a JSON document with the key that it stands under."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _entries(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner, key)
    else:
        yield key, value


def _network(program: torch.export.ExportedProgram, directory: ModelDirectory, device: str) -> NetworkFile:
    program._guards_code = []  # Python that torch would compile and run
    if torch_device(device).type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, torch_device(device))
    nodes = {node.name: node for node in program.graph.nodes}
    taken = {str(name): nodes[str(name)].meta.get("val") for name in program.graph_signature.user_inputs}
    given = [nodes[str(name)].meta["val"] for name in program.graph_signature.user_outputs]
    for name, value in taken.items():
        if not isinstance(value, torch.Tensor):
            raise CardError(f"{directory.source}: its input {name} is no tensor; export it with tensors only")
    graph: Any = program.module(check_guards=False)
    for method in ("train", "eval"):  # refused by torch, though the graph has but one mode
        graph.__dict__.pop(method, None)
    inputs = tuple(_spec(name, value) for name, value in taken.items())
    names = _output_names(program.call_spec.out_spec, directory, len(given))
    values = program.example_inputs and pytree.tree_leaves(program.example_inputs)
    example = (
        {spec.name: _array(value) for spec, value in zip(inputs, values, strict=True)}
        if values
        else example_of(inputs, directory.card.parameters.get("example", {}))
    )
    return NetworkFile(
        module=_FlatModule(
            graph, program.call_spec.in_spec, {name: value.dtype for name, value in taken.items()}
        ),
        inputs=inputs,
        outputs=tuple(_spec(name, value) for name, value in zip(names, given, strict=True)),
        example=example,
        native="torch-export",
    )


def _spec(name: str, value: torch.Tensor) -> TensorSpec:
    return TensorSpec(
        name, wire_dtype(value.dtype), tuple(size if type(size) is int else None for size in value.shape)
    )


def _array(value: torch.Tensor) -> Any:
    return value.detach().cpu().to(getattr(torch, wire_dtype(value.dtype))).numpy()


def _output_names(spec: Any, directory: ModelDirectory, count: int) -> list[str]:
    if spec.type is dict and spec.num_leaves == len(spec.context):
        return list(spec.context)
    listed = [each.name for each in specs_in_card(directory, "outputs")]
    if len(listed) == count:
        return listed
    return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]
