"""Which models a replica has, and which of them a request means."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from meshwork.errors import FailedPrecondition, InvalidArgument, ModelNotFound
from meshwork.model_config import ModelConfig
from meshwork.names import version_order
from meshwork.router.v1 import router_pb2
from meshwork.serving.capacity import Speed
from meshwork.serving.card import ModelCard, ModelDirectory
from meshwork.serving.lane import AnyTask
from meshwork.serving.loaded import Loaded

_LOAD_GUESS_S = 5.0  # what a load is taken to need, before one was measured


@dataclass(slots=True)
class Entry:
    """One model of the table, in whatever state."""

    config: ModelConfig
    described: router_pb2.Model
    kind: type[AnyTask]
    directory: ModelDirectory
    loaded: Loaded[AnyTask] | None = None
    loading: asyncio.Task[Loaded[AnyTask]] | None = None
    stalled: bool = False  # all its devices have
    uses: int = 0  # calls that are being answered
    last_used: float = 0.0
    load_s: float = _LOAD_GUESS_S  # what its last load took
    measured_bytes: int = 0  # what it was last seen to take on one device
    call_items: float = 0.0  # mean items of a call; 0 while not known
    speed: Speed = field(default_factory=Speed)

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self.directory.card

    @property
    def failed(self) -> bool:
        """Whether it could not be loaded; one whose devices have stalled is not to be stood in for."""
        return self.described.state == router_pb2.MODEL_STATE_FAILED and not self.stalled

    def answers(self, kind: type[AnyTask], method: str) -> bool:
        """Whether it is of that kind and answers that rpc."""
        return issubclass(self.kind, kind) and method in self.described.methods


class Roster:
    """The models of a replica that could be opened, in the order in which they were added.

    Args:
        service: the replica's service, for errors.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._entries: dict[str, Entry] = {}  # by name@version
        self._defaults: dict[str, Entry] = {}  # by method

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def __contains__(self, model: object) -> bool:
        return model in self._entries

    def add(self, entry: Entry) -> None:
        """Takes a model in."""
        self._entries[entry.card.id] = entry
        self.choose_defaults()

    def remove(self, entry: Entry) -> None:
        """Forgets a model."""
        del self._entries[entry.card.id]
        self.choose_defaults()

    def of(self, described: router_pb2.Model) -> Entry | None:
        """The entry that is described so, if it could be opened."""
        return next((each for each in self._entries.values() if each.described is described), None)

    def choose_defaults(self) -> None:
        """Says anew which model answers which method for callers who name none: after a change of states."""
        self._defaults.clear()
        able = [each for each in self._entries.values() if not each.failed]
        for entry in sorted(able, key=lambda entry: not entry.config.default):
            for method in entry.described.methods:
                self._defaults.setdefault(method, entry)
        for entry in self._entries.values():
            methods = [method for method, default in self._defaults.items() if default is entry]
            entry.described.default_methods[:] = methods

    def named(self, model: str) -> Entry:
        """The entry that `name` or `name@version` means; of several versions the newest.

        Raises:
            ModelNotFound: there is none.
        """
        entry = self._entries.get(model)
        if entry is not None:
            return entry
        named = [each for each in self._entries.values() if each.card.name == model]
        if not named:
            raise ModelNotFound.among(model, self._service, list(self._entries))
        if len(named) == 1:
            return named[0]
        return max(named, key=lambda each: version_order(each.card.version))

    def _first(self, kind: type[AnyTask], method: str) -> Entry | None:
        """The first model of a kind that answers a method, those marked default before the others."""
        for entry in sorted(self._entries.values(), key=lambda entry: not entry.config.default):
            if not entry.failed and entry.answers(kind, method):
                return entry
        return None

    def find(self, kind: type[AnyTask], method: str, model: str) -> Entry:
        """The entry that a request means.

        Args:
            kind: the task class that the method needs.
            method: the rpc's name, for example `Classify`.
            model: the request's `model`: "", `name` or `name@version`.

        Raises:
            ModelNotFound: this replica has no such model.
            InvalidArgument: it has, but the model does not answer this method.
            FailedPrecondition: nothing answers it.
        """
        if not model:
            default = self._defaults.get(method)
            if default is None or not issubclass(default.kind, kind):
                # The method has forms that want different kinds of model; the first that fits answers.
                default = self._first(kind, method)
            if default is None:
                raise FailedPrecondition(f"service {self._service} has no model that answers {method}")
            return default
        entry = self.named(model)
        if entry.answers(kind, method):
            return entry
        able = [each for each in self._entries.values() if each.answers(kind, method)]
        named = [each for each in able if each.card.name == model]  # another version of it does
        if not named:
            ids = ", ".join(each.card.id for each in able)
            raise InvalidArgument(
                f"{model!r} does not answer {method}; these do: {ids or 'none'}", field="model"
            )
        return max(named, key=lambda each: version_order(each.card.version))
