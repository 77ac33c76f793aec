"""A model that a service is told to serve: an entry of `mesh.yaml`, or of `meshwork models add`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter
from pydantic.dataclasses import dataclass

from meshwork.devices import parse_devices

Engine = Literal["", "auto", "torch", "torch-compile", "onnxruntime", "openvino"]
Precision = Literal["", "float32", "bfloat16", "float16"]


def _device(text: str) -> str:
    if text:
        parse_devices(text)
    return text


DeviceName = Annotated[str, AfterValidator(_device)]


@dataclass(frozen=True, kw_only=True, slots=True, config=ConfigDict(extra="forbid"))
class ModelConfig:
    """What to serve and how; what is empty, the model's card says."""

    source: Annotated[str, Field(min_length=1)]
    """`starter://NAME`, `hf://ORG/NAME@REVISION`, or the path of a directory (with a card.yaml, or as
    Hugging Face lays one out) or of an .onnx, .pt2 or .pt file."""
    name: Annotated[str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9._-]{0,63})?$")] = ""
    version: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")] = ""
    task: str = ""  # which of the service's tasks runs it
    default: bool = False  # answers callers who name no model, before the others do
    device: DeviceName = ""  # "" for the service's; several by commas: one model in parallel on all
    load: Literal["start", "demand"] = "start"  # when to load it: at once, or for its first caller
    engine: Engine = ""
    precision: Precision = ""
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0  # 0 for the card's
    providers: tuple[str, ...] = ()  # onnxruntime execution providers, best first
    parameters: Mapping[str, Any] = field(default_factory=dict)  # the task's own settings
    allow_pickle: tuple[str, ...] = ()  # files that may be unpickled, which runs code in them


_ONE = TypeAdapter(ModelConfig)
_MANY = TypeAdapter(tuple[ModelConfig, ...])


def to_json(config: ModelConfig) -> str:
    """One entry as `from_json` reads it."""
    return _ONE.dump_json(config).decode()


def from_json(text: str | bytes) -> ModelConfig:
    """What `to_json` wrote.

    Raises:
        ValidationError: it is no entry.
    """
    return _ONE.validate_json(text)


def list_to_json(configs: tuple[ModelConfig, ...]) -> str:
    """Entries as `list_from_json` reads them."""
    return _MANY.dump_json(configs).decode()


def list_from_json(text: str | bytes) -> tuple[ModelConfig, ...]:
    """What `list_to_json` wrote.

    Raises:
        ValidationError: it is no list of entries.
    """
    return _MANY.validate_json(text)
