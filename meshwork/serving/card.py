"""The card of a model directory: `card.yaml`, what the model is, does and cannot do.

::

    name: digits                # [a-z0-9][a-z0-9._-]*, unique in its service
    version: "1"                # immutable: new weights are a new version
    service: vision
    task: digits                # which of the service's tasks runs it; tensors; or model.py:Class
    methods: [Classify]         # rpcs that it answers
    licence: BSD-3-Clause       # SPDX
    description: Handwritten digits, 0 to 9.
    limits: [One digit an image.]
    quality: [{metric: accuracy, value: 0.985, dataset: 360 held-out digits}]
    weights: package:NAME/PATH  # only if they lie in an installed package
    engine: auto                # torch (default), torch-compile, onnxruntime, openvino, or the fastest
    precision: bfloat16         # of the weights on the device; float32 by default
    tolerance: 0.01             # by how much an engine may differ from torch in float32
    providers: [CUDA, CPU]      # onnxruntime execution providers, best first
    parameters: {pooling: cls}  # the task's own settings
    allow_pickle: [model.bin]   # files that may be unpickled, which runs code in them

The directory holds the weights beside the card (safetensors where they are torch).
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CARD_FILE = "card.yaml"
PACKAGE = "package:"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class CardError(ValueError):
    """A model directory cannot be used; says which file and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """A figure that was measured when the model was made."""

    metric: str  # what was measured, for example "accuracy"
    value: float  # in the metric's own unit
    dataset: str  # what it was measured on


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """What `card.yaml` says; see this module's docstring."""

    name: str
    version: str
    service: str
    task: str
    methods: tuple[str, ...]
    licence: str = ""
    description: str = ""
    limits: tuple[str, ...] = ()
    quality: tuple[Measurement, ...] = ()
    weights: str = ""
    engine: str = "torch"
    precision: str = "float32"
    tolerance: float = 0.0  # largest `error_between` an engine's outputs and torch's; 0: by precision
    providers: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    allow_pickle: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelDirectory:
    """A model on disk."""

    path: Path  # holds the card, if there is one, and the weights
    card: ModelCard
    source: str  # as the operator wrote it
    only: str = ""  # the one file that is the model, where the source is a file

    def file(self, name: str) -> Path:
        """A file of the weights.

        Raises:
            CardError: there is no such file.
        """
        path = self.weights_folder / name
        if not path.is_file():
            raise CardError(f"{self.source}: {path} is missing")
        return path

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.weights_folder / name).is_file()

    @property
    def weights_folder(self) -> Path:
        """Where the weights lie: beside the card, or in an installed package.

        Raises:
            CardError: the package is not installed.
        """
        return _package_path(self.card.weights) if self.card.weights else self.path


def read_card(path: Path, source: str) -> ModelCard:
    """Reads and checks the card in the directory `path`.

    Args:
        source: as the operator wrote it, for errors.

    Raises:
        CardError: it cannot be read, or is wrong.
    """
    file = path / CARD_FILE
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CardError(f"{source}: cannot read {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise CardError(f"{file}: not YAML: {error}") from error
    if not isinstance(content, dict):
        raise CardError(f"{file}: should be a mapping with name, version, service, task, methods")
    return _card(content, file)


def _card(content: Mapping[str, Any], file: Path) -> ModelCard:
    fields = {str(name): value for name, value in content.items()}
    try:
        fields["methods"] = _texts(fields.get("methods", []), file, "methods")
        fields["limits"] = _texts(fields.get("limits", []), file, "limits")
        for name in ("providers", "allow_pickle"):
            fields[name] = _texts(fields.get(name, []), file, name)
        fields["quality"] = tuple(Measurement(**entry) for entry in fields.get("quality", []))
        card = ModelCard(**fields)
    except TypeError as error:
        raise CardError(f"{file}: {error}") from error
    for name in ("name", "service", "task", "licence", "description", "weights", "engine", "precision"):
        if not isinstance(getattr(card, name), str):
            raise CardError(f"{file}: {name}: should be text, not {getattr(card, name)!r}")
    for entry in card.quality:
        texts = isinstance(entry.metric, str) and isinstance(entry.dataset, str)
        if not texts or not isinstance(entry.value, int | float):
            raise CardError(f"{file}: quality: should give metric, value (a number) and dataset, not {entry}")
    if not isinstance(card.tolerance, int | float) or not card.tolerance >= 0:
        raise CardError(f"{file}: tolerance: should be a number, 0 or more, not {card.tolerance!r}")
    if not isinstance(card.parameters, dict):
        raise CardError(f"{file}: parameters: should be a mapping, not {card.parameters!r}")
    if not _NAME.fullmatch(card.name):
        raise CardError(f"{file}: name: should match {_NAME.pattern}, not {card.name!r}")
    if not isinstance(card.version, str) or not _VERSION.fullmatch(card.version):
        raise CardError(f"{file}: version: should be a quoted string, not {card.version!r}")
    if not card.methods and card.task != "tensors" and ":" not in card.task:
        raise CardError(f"{file}: methods: should name at least one rpc")
    return card


def _texts(value: Any, file: Path, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise CardError(f"{file}: {name}: should be a list of texts, not {value!r}")
    return tuple(value)


def _package_path(weights: str) -> Path:
    if not weights.startswith(PACKAGE):
        raise CardError(f"weights: should begin with {PACKAGE!r}, not {weights!r}")
    package, _, inner = weights[len(PACKAGE) :].partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise CardError(f"weights: package {package} is not installed")
    return Path(spec.submodule_search_locations[0]) / inner
