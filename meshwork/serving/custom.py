"""Tasks of the operator's own: one class with typed preprocess, forward and postprocess.

A card names it as `task: module:Class`, from an installed package, or `task: model.py:Class`, from a
file of the model's directory, which may import its neighbours with `from . import ...`. It is a subclass
of the kind of task that the service's methods need (for example `ImageClassifier`), or of `TensorTask`.
Such code runs as the replica does, so it is taken from the operator's own disk only, never from a hub.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import itertools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.hub import SCHEME
from meshwork.serving.task import Task

_COUNT = itertools.count(1)


def custom_task(task: str, directory: ModelDirectory) -> type[Task[Any, Any, Any, Any]]:
    """The class that `task` names.

    Raises:
        CardError: the model is from a hub, or there is no such class, or it is no complete task.
    """
    where = f"{directory.source}: task {task!r}"
    if directory.source.startswith(SCHEME):
        raise CardError(f"{where}: code from a hub is not run; copy the model to a directory of your own")
    source, _, name = task.rpartition(":")
    try:
        module = (
            _from_file(directory.file(source)) if source.endswith(".py") else importlib.import_module(source)
        )
    except CardError:
        raise
    except (Exception, SystemExit) as error:  # whatever its code does
        raise CardError(f"{where}: cannot be imported: {type(error).__name__}: {error}") from error
    kind = getattr(module, name, None)
    if not isinstance(kind, type) or not issubclass(kind, Task):
        raise CardError(f"{where}: {name} should be a class in {source} that is a Task, not {kind!r}")
    if inspect.isabstract(kind):
        lacking = ", ".join(sorted(kind.__abstractmethods__))
        raise CardError(f"{where}: {name} lacks {lacking}")
    if not (kind.methods or directory.card.methods):
        raise CardError(f"{where}: neither the card nor {name} says in `methods` which rpcs it answers")
    return kind


def _from_file(file: Path) -> ModuleType:
    """Runs a file as a module under a name of its own, so that models cannot meet in `sys.modules`."""
    name = f"meshwork_model_{next(_COUNT)}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=[str(file.parent)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
