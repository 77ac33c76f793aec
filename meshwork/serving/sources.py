"""Where models come from, each made a directory with a card.

============================== ==================================================================
`starter://NAME`               a starter model of the service
`hf://ORG/NAME@REVISION`       a repository on the Hugging Face hub, through huggingface_hub's cache
a directory with `card.yaml`   a model directory
a directory with `config.json` as Hugging Face lays it out: the architecture names the task
a file `.onnx`, `.pt2`, `.pt`, `.ts`  a network of named tensors
============================== ==================================================================

What the operator's entry says wins over the card.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meshwork.model_config import ModelConfig
from meshwork.serving import hub
from meshwork.serving.card import CARD_FILE, CardError, ModelCard, ModelDirectory, read_card

STARTER = "starter://"
TENSORS = "tensors"  # the task of networks that are served as tensors only
_FILES = (".onnx", ".pt2", ".pt", ".ts")
_CONFIG = "config.json"
_UNFIT = re.compile(r"[^a-z0-9._-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """What a service knows of tasks."""

    service: str
    tasks: tuple[str, ...]
    architectures: Mapping[str, str]  # end of an architecture's name in config.json -> task
    methods: Callable[[str], tuple[str, ...]]  # of a task: rpcs that its models answer


def open_source(
    config: ModelConfig, catalogue: Catalogue, on_progress: Callable[[str], None] = lambda _: None
) -> ModelDirectory:
    """The directory and card that `config` means; fetches it if it is on a hub. Blocks.

    Args:
        on_progress: told in words how far a download is.

    Raises:
        CardError: there is no such thing, or it cannot be served by this service.
    """
    source = config.source
    if source.startswith(STARTER):
        path = _starter(source, catalogue.service)
    elif source.startswith(hub.SCHEME):
        path = hub.fetch(source, on_progress, pickle=bool(config.allow_pickle))
    elif "://" in source:
        raise CardError(f"{source}: should begin with {STARTER} or {hub.SCHEME}, or be a path")
    else:
        path = Path(source).expanduser()
    only = ""
    if path.is_file() and path.suffix in _FILES:
        path, only = path.parent, path.name
    if not path.is_dir():
        raise CardError(f"{source}: there is no directory {path}, nor a file in {', '.join(_FILES)}")
    if (path / CARD_FILE).is_file() and not only:
        card = read_card(path, source)
    else:
        card = _made_card(config, catalogue, path, only)
    if card.service != catalogue.service:
        raise CardError(
            f"{path / CARD_FILE}: is a model of service {card.service}, not of {catalogue.service}"
        )
    return ModelDirectory(path=path, card=_overridden(card, config), source=source, only=only)


def open_directory(source: str, service: str) -> ModelDirectory:
    """The model directory, with a card of its own, that `source` names.

    Raises:
        CardError: there is no such directory, or it is no model of `service`.
    """
    cards_only = Catalogue(service=service, tasks=(), architectures={}, methods=lambda _: ())
    return open_source(ModelConfig(source=source), cards_only)


def _starter(source: str, service: str) -> Path:
    # Found without importing it, so that this module stays independent of `services`.
    spec = importlib.util.find_spec(f"services.{service}")
    if spec is None or not spec.submodule_search_locations:
        raise CardError(f"{source}: service {service} is not installed")
    path = Path(spec.submodule_search_locations[0]) / "starters" / source[len(STARTER) :]
    if not (path / CARD_FILE).is_file():
        raise CardError(f"{source}: service {service} has no such starter model")
    return path


def default_name(source: str) -> str:
    """A model's name where nobody gave one: the last part of its source."""
    last = Path(source.partition("@")[0].rstrip("/")).name
    for ending in _FILES:
        last = last.removesuffix(ending)
    return _UNFIT.sub("-", last.lower()).strip("-._")[:64] or "model"


def _made_card(config: ModelConfig, catalogue: Catalogue, path: Path, only: str) -> ModelCard:
    """A card for a directory without one."""
    task = config.task or (TENSORS if only else _task_of(path, catalogue, config.source))
    if ":" not in task and task not in catalogue.tasks:
        raise CardError(
            f"{config.source}: no task {task!r}; {catalogue.service} has: {', '.join(catalogue.tasks)}"
        )
    return ModelCard(
        name=config.name or default_name(config.source),
        version=config.version or "1",
        service=catalogue.service,
        task=task,
        methods=() if ":" in task else catalogue.methods(task),
        description=f"{task} from {config.source}",
    )


def architecture(path: Path) -> str:
    """The architecture that a Hugging Face `config.json` names, "" if it names none.

    Raises:
        CardError: the file is no such configuration.
    """
    try:
        content: Any = json.loads((path / _CONFIG).read_text(encoding="utf-8"))
        names = content.get("architectures") or [""]
        return str(names[0])
    except OSError as error:
        raise CardError(f"{path}: has neither {CARD_FILE} nor {_CONFIG}") from error
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise CardError(f"{path / _CONFIG}: is no model configuration: {error}") from error


def _task_of(path: Path, catalogue: Catalogue, source: str) -> str:
    name = architecture(path)
    known = [ending for ending in catalogue.architectures if name.endswith(ending)]
    if not known:
        endings = ", ".join(sorted(catalogue.architectures)) or "none"
        raise CardError(
            f"{source}: {catalogue.service} knows no task for architecture {name or 'unknown'!r}; "
            f"it knows {endings}; or say which with --task ({', '.join(catalogue.tasks)})"
        )
    return catalogue.architectures[max(known, key=len)]


def _overridden(card: ModelCard, config: ModelConfig) -> ModelCard:
    given: dict[str, Any] = {
        name: value
        for name in ("name", "version", "task", "engine", "precision", "tolerance", "providers")
        if (value := getattr(config, name))
    }
    given["parameters"] = {**card.parameters, **config.parameters}
    # What comes from a hub cannot vouch for itself.
    own = () if config.source.startswith(hub.SCHEME) else card.allow_pickle
    given["allow_pickle"] = (*own, *config.allow_pickle)
    return replace(card, **given)
