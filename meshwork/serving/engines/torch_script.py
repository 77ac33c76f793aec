"""TorchScript files (`.pt`, `.ts`), and pickled torch modules where the operator allows it.

TorchScript says nothing of dtypes and shapes, so the card lists them. Its loader builds only what
TorchScript knows; a pickle can run any code, and is refused unless `allow_pickle` names the file.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.engines.network_file import NetworkFile, specs_in_card
from meshwork.serving.engines.trial import example_of


def open_torchscript(directory: ModelDirectory, file: Path) -> NetworkFile:
    """Reads a TorchScript file, or a pickled module.

    Raises:
        CardError: it is neither, it is a pickle that nobody allowed, or the card does not list its tensors.
    """
    scripted = _is_torchscript(file)
    if not scripted and file.name not in directory.card.allow_pickle:
        raise CardError(
            f"{directory.source}: {file.name} is no TorchScript; if it is a pickled module, loading it can "
            "run any code: name it in allow_pickle if you trust it, or save it with torch.export.save"
        )
    try:
        # A named pickle is the operator's decision.
        module: Any = (
            torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
            if scripted
            else torch.load(file, map_location="cpu", weights_only=False)
        )
    except Exception as error:
        raise CardError(f"{directory.source}: {file.name}: torch cannot load it: {error}") from error
    if not isinstance(module, nn.Module):
        raise CardError(
            f"{directory.source}: {file.name} holds {type(module).__name__}, no module: "
            "weights alone need a task whose code builds the network"
        )
    inputs, outputs = specs_in_card(directory, "inputs"), specs_in_card(directory, "outputs")
    if not inputs or not outputs:
        raise CardError(
            f"{directory.source}: TorchScript does not say what it takes: put {file.name} in a directory "
            f"with a card.yaml that does:\n{_suggestion(module)}"
        )
    return NetworkFile(
        module=module,
        inputs=inputs,
        outputs=outputs,
        example=example_of(inputs, directory.card.parameters.get("example", {})),
        native="torchscript",
    )


def _is_torchscript(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False
    return "constants.pkl" in names and any(name.startswith("code/") for name in names)


def _suggestion(module: Any) -> str:
    try:
        names = [argument.name for argument in module.forward.schema.arguments[1:]]
    except AttributeError:
        names = ["input"]
    entries = "\n".join(f"    - {{name: {name}, dtype: float32, shape: [null, 3]}}" for name in names)
    return (
        f"task: tensors\nparameters:\n  inputs:\n{entries}\n"
        "  outputs:\n    - {name: output, dtype: float32, shape: [null, 10]}"
    )
